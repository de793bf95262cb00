-- ARGV: client.
local c = ARGV[5]
local C = client(c)
if not C then return 0 end
call('HSET', R .. 'c:' .. c, 'ep', C.ep + 1, 'ver', C.ver + 1, 'at', now)
call('ZADD', R .. 'b', now, 'c' .. c)
log('C', c, C.ep + 1, 0)
return 1
