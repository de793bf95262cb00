-- ARGV: what has been dead since then goes, how many at most, how many to look at, how many changes stay, the number to go on
-- behind in what an epoch has outlived, and which epoch's that is. Returns how many went and where to go on: those two, or nothing
-- when all is done.
local since, room, looks = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local removed = 0

local function gone(id, t)
  remove(id, t)
  room, removed = room - 1, removed + 1
end

for _, index in ipairs({ 'r', 'e' }) do
  local want = math.min(room, looks)
  local due = call('ZRANGEBYSCORE', R .. index, '-inf', since, 'LIMIT', 0, want)
  for _, member in ipairs(due) do
    local id = index == 'e' and string.sub(member, 17) or member
    local t = peek(id)
    call('ZREM', R .. index, member)
    if t then
      gone(id, t)
    elseif call('ZREM', R .. 'n', id) == 1 then
      -- It went by itself, long after it was dead.
      call('HINCRBY', R .. 'm', 'cnt', -1)
      call('ZREM', R .. 'x', id)
    end
  end
  if room == 0 then return { removed, false } end
  if #due == want then return { removed, '0', '' } end
end

-- What an epoch has outlived, a burial has ended or a client has left behind.
local mark = call('ZRANGEBYSCORE', R .. 'b', '-inf', since, 'LIMIT', 0, 1)[1]
if mark then
  local what, whose = string.sub(mark, 1, 1), string.sub(mark, 2)
  local of_subject = what == 'l' or what == 'k' or what == 'x'
  local index = of_subject and R .. 'i:' .. whose or R .. 'n'
  local deployment_at = tonumber(call('HGET', R .. 'm', 'at'))
  -- Another node may have come to its end meanwhile, or begun one that comes first: how far this one is says nothing of those.
  local last = mark == ARGV[10] and ARGV[9] or '0'
  local page = call('ZRANGEBYSCORE', index, '(' .. last, '+inf', 'WITHSCORES', 'LIMIT', 0, looks)
  for at = 1, #page, 2 do
    if room == 0 then return { removed, last, mark } end
    local id = page[at]
    last = page[at + 1]
    local t = peek(id)
    if t then
      local S, C = subject(t.s), client(t.c)
      if not S or not C or t.g ~= S.g .. TAG then
        -- Nodes that know it are told; of a client that is deleted they have been.
        if was_evicted(id) then log('R', digests(t), { id }) end
        gone(id, t)
      elseif S.st == 'b' and S.at <= since
        or t.k == 'l' and t.es < S.le and S.la <= since
        or t.k == 'k' and t.es < S.ke and S.ka <= since
        or t.ec < C.ep and C.at <= since
        or t.ed < EP and deployment_at <= since then
        gone(id, t)
      end
    elseif of_subject then
      if call('ZREM', index, id) == 1 then call('HINCRBY', R .. 's:' .. whose, 'cnt', -1) end
    elseif call('ZREM', index, id) == 1 then
      call('HINCRBY', R .. 'm', 'cnt', -1)
    end
  end
  if #page == 2 * looks then return { removed, last, mark } end
  call('ZREM', R .. 'b', mark)
  return { removed, '0', '' }
end

local want = math.min(room, looks)
local old = call('ZRANGEBYSCORE', R .. 'q', '-inf', since, 'LIMIT', 0, want)
for _, member in ipairs(old) do
  local digest, id = string.sub(member, 1, 32), string.sub(member, 33)
  call('ZREM', R .. 'q', member)
  local t = peek(id)
  if t then
    local kept
    for _, one in ipairs(t.q or {}) do
      if one[1] == digest then
        count_scheme(one[2] ~= '' and one[2] or nil, -1)
      else
        kept = kept or {}
        kept[#kept + 1] = one
      end
    end
    t.q = kept
    put(id, t)
    forget_digest(digest, id)
    room, removed = room - 1, removed + 1
  end
end
if room > 0 and #old == want then return { removed, '0', '' } end

local extra = math.min(call('LLEN', R .. 'l') - tonumber(ARGV[8]), room)
if extra > 0 then
  call('LTRIM', R .. 'l', extra, -1)
  removed = removed + extra
end
return { removed, false }
