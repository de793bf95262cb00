-- What every script that writes has besides.
local rows = {}

-- Adds a row to the change log. What follows the kind also serves a node that has to assert it again after a failover; whoever
-- writes is told of the rows with the answer.
local function log(kind, ...)
  call('HINCRBY', R .. 'm', 'head', 1)
  local count = #rows + 1
  local tag = string.sub(ARGV[3], 1, 6) .. struct.pack('>H', (struct.unpack('>H', string.sub(ARGV[3], 7, 8)) + count) % 65536)
  rows[count] = { tag, now, kind, ... }
  call('RPUSH', R .. 'l', cmsgpack.pack(rows[count]))
  if count == 1 then call('PUBLISH', R .. 'news', '') end
end

local function number_member(n, id) return string.format('%016.0f', n) .. id end

local function put(id, t)
  local packed = cmsgpack.pack(t)
  if t.e then
    call('SET', R .. 't:' .. id, packed, 'PX', math.max(t.e - now, 0) + GC)
  else
    call('SET', R .. 't:' .. id, packed)
  end
end

-- Whether a token that `load` does not give was evicted, or its subject or client was. Nodes may know it and let it in, and what it would
-- take to tell them is lost: to take it for gone would acknowledge an end that does not reach them.
local function was_evicted(id)
  local n = call('ZSCORE', R .. 'n', id)
  if not n then return not whole(R .. 'n', tonumber(M[4])) end
  local t = peek(id)
  if t then
    local S = subject(t.s)
    -- Nodes are told of a client that is deleted, and it is marked for the purge.
    return not S or t.g ~= S.g .. TAG or not (client(t.c) or call('ZSCORE', R .. 'b', 'g' .. t.c))
  end
  -- It goes by itself long after its time.
  local expiry = call('ZSCORE', R .. 'e', number_member(tonumber(n), id))
  return not expiry or tonumber(expiry) > now
end

local function digests(t)
  local all = { t.d }
  for _, old in ipairs(t.q or {}) do all[#all + 1] = old[1] end
  return all
end

local function name_digest(digest, id, t)
  if t.e then
    call('SET', R .. 'd:' .. digest, id, 'PX', math.max(t.e - now, 0) + GC)
  else
    call('SET', R .. 'd:' .. digest, id)
  end
end

local function forget_digest(digest, id)
  if call('GET', R .. 'd:' .. digest) == id then call('DEL', R .. 'd:' .. digest) end
end

local function count_scheme(scheme, by)
  if scheme and call('HINCRBY', R .. 'f', scheme, by) <= 0 then call('HDEL', R .. 'f', scheme) end
end

local function is_known(digest)
  local id = call('GET', R .. 'd:' .. digest)
  local t = id and load(id)
  if not t then return false end
  if t.d == digest then return true end
  for _, old in ipairs(t.q or {}) do if old[1] == digest then return true end end
  return false
end

local function revoke(id, t)
  t.r = now
  if t.x then
    t.x = nil
    call('ZREM', R .. 'x', id)
  end
  put(id, t)
  call('ZADD', R .. 'r', now, id)
end

-- Moves the expiry on and never back.
local function renew(id, t, till)
  local e = t.e and till and math.max(till, t.e)
  if e == t.e then return end
  call('ZREM', R .. 'e', number_member(t.n, id))
  t.e = e or nil
  if t.e then call('ZADD', R .. 'e', t.e, number_member(t.n, id)) end
  put(id, t)
  for _, digest in ipairs(digests(t)) do name_digest(digest, id, t) end
end

-- Removes a token from everywhere.
local function remove(id, t)
  for _, digest in ipairs(digests(t)) do forget_digest(digest, id) end
  count_scheme(t.h, -1)
  for _, old in ipairs(t.q or {}) do
    count_scheme(old[2] ~= '' and old[2] or nil, -1)
    call('ZREM', R .. 'q', old[1] .. id)
  end
  call('DEL', R .. 't:' .. id)
  call('ZREM', R .. 'e', number_member(t.n, id))
  call('ZREM', R .. 'r', id)
  call('ZREM', R .. 'x', id)
  if call('ZREM', R .. 'n', id) == 1 then call('HINCRBY', R .. 'm', 'cnt', -1) end
  if call('ZREM', R .. 'i:' .. t.s, id) == 1 and call('EXISTS', R .. 's:' .. t.s) == 1 then
    call('HINCRBY', R .. 's:' .. t.s, 'cnt', -1)
  end
end
