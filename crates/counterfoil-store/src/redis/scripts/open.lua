local key_count = tonumber(ARGV[5])
local at = 6 + key_count
if not M[1] then
  begin(OURS)
elseif OURS ~= '' and not M[5] then
  call('HSET', R .. 'm', 'of', OURS)
end
if call('EXISTS', R .. 'k') == 0 then
  for key = 6, at - 1 do call('RPUSH', R .. 'k', ARGV[key]) end
end
local c, name = ARGV[at], ARGV[at + 1]
local known = call('HGET', R .. 'cn', name)
if not known or call('EXISTS', R .. 'c:' .. known) == 0 then
  call('HSET', R .. 'cn', name, c)
  call('HSET', R .. 'c:' .. c, 'ver', 1, 'ep', 0, 'at', 0, 'name', name, 'pol', ARGV[at + 2], 'may', ARGV[at + 3], 'md',
    ARGV[at + 4], 'ca', ARGV[at + 5])
end
return { call('LRANGE', R .. 'k', 0, -1), call('HKEYS', R .. 'f') }
