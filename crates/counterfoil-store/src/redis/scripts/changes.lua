-- ARGV: the number to go on behind, how many at most.
local after, most = tonumber(ARGV[5]), tonumber(ARGV[6])
local head = tonumber(call('HGET', R .. 'm', 'head'))
local first = head - call('LLEN', R .. 'l') + 1
local from = math.min(math.max(after + 1, first), head + 1)
local rows = {}
if most > 0 and from <= head then
  local page = call('LRANGE', R .. 'l', from - first, from - first + most - 1)
  for at, row in ipairs(page) do rows[at] = cmsgpack.unpack(row) end
end
local clock = call('TIME')
return { redis.sha1hex(M[1] .. life), head, from, clock[1] * 1000 + math.floor(clock[2] / 1000), rows }
