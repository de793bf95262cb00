-- ARGV from 5 on: id, kind, subject, client, its version, warrant, what the warrant names, name, abilities, metadata, expiry,
-- digest, scheme, the sealed secret's key, its bytes, address, agent, the cap's limit, what happens at it, reissue.
local id, kind, s, c, version = ARGV[5], ARGV[6], ARGV[7], ARGV[8], tonumber(ARGV[9])
local warrant, named, digest, scheme = ARGV[10], ARGV[11], ARGV[16], some(ARGV[17])
local limit, at_cap, reissue = number(ARGV[22]), ARGV[23], ARGV[24]
local S = subject(s)
if not S or S.st ~= 'a' then return { 'inactive' } end
if warrant == 'p' then
  if S.le ~= tonumber(named) then return { 'void' } end
elseif warrant == 't' then
  local maker, _, its_client = load(named)
  if not maker or maker.s ~= s or not is_live(maker, S, its_client) then return { 'void' } end
end
local C = client(c)
if not C or C.ver ~= version then return { 'client' } end

-- A client with neither a cap nor a place to give up need not look at the tokens before.
local living, ending = {}, {}
if kind == 'l' and (limit or reissue ~= 'n') then
  local index = R .. 'i:' .. s
  if not whole(index, S.cnt) then return DAMAGED end
  for _, other in ipairs(call('ZRANGE', index, 0, -1)) do
    local t, _, its_client = load(other)
    if t and t.k == 'l' and t.c == c and is_live(t, S, its_client) then
      living[#living + 1] = { other, t }
    elseif not t and was_evicted(other) then
      return DAMAGED
    elseif not t and call('EXISTS', R .. 't:' .. other) == 0 then
      -- It went by itself, long after it was dead.
      call('ZREM', index, other)
      call('HINCRBY', R .. 's:' .. s, 'cnt', -1)
    end
  end
  if reissue == 's' then
    for _, one in ipairs(living) do
      if one[2].x then
        if warrant == 'p' then call('DEL', R .. 'a:' .. s) end
        return { 'same', record(one[1], one[2], S, C), one[2].x[1], one[2].x[2], one[2].d }
      end
    end
  end
  local first = 1
  if reissue == 'r' then
    for _, one in ipairs(living) do ending[#ending + 1] = one end
    first = #living + 1
  end
  if limit then
    local beyond = #living - first + 2 - limit
    if beyond > 0 and at_cap == 'r' then return { 'cap' } end
    if beyond > 0 then
      for at = first, math.min(first + beyond - 1, #living) do ending[#ending + 1] = living[at] end
    end
  end
end
if load(id) or is_known(digest) then return { 'taken' } end

local ended = {}
for _, one in ipairs(ending) do
  revoke(one[1], one[2])
  log('R', digests(one[2]), { one[1] })
  ended[#ended + 1] = one[1]
end
-- What is left of one of that name belongs to a client that is gone.
local before = peek(id)
if before then remove(id, before) end
local n = call('HINCRBY', R .. 'm', 'num', 1)
local t = { n = n, k = kind, s = s, c = c, m = some(ARGV[12]), a = ARGV[13], j = some(ARGV[14]), i = now, e = number(ARGV[15]),
  es = 0, ec = C.ep, ed = EP, d = digest, h = scheme, f = some(ARGV[20]), w = some(ARGV[21]), g = S.g .. TAG }
t.es = stands_at(t, S)
if ARGV[19] ~= '' then
  t.x = { tonumber(ARGV[18]), ARGV[19] }
  call('ZADD', R .. 'x', n, id)
end
put(id, t)
name_digest(digest, id, t)
count_scheme(scheme, 1)
call('ZADD', R .. 'n', n, id)
call('HINCRBY', R .. 'm', 'cnt', 1)
call('ZADD', R .. 'i:' .. s, n, id)
call('HINCRBY', R .. 's:' .. s, 'cnt', 1)
if t.e then call('ZADD', R .. 'e', t.e, number_member(n, id)) end
if not S.ever then call('HSET', R .. 's:' .. s, 'ev', 1) end
if warrant == 'p' then call('DEL', R .. 'a:' .. s) end
return { 'issued', record(id, t, S, C), S.ever and 0 or 1, ended }
