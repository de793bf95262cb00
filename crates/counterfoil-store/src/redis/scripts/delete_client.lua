-- ARGV: id. Its tokens are gone with it, whatever is still there of them: see `load`. The mark has them removed.
local c = ARGV[5]
local C = client(c)
if not C then return 0 end
call('DEL', R .. 'c:' .. c)
call('HDEL', R .. 'cn', C.name)
call('ZADD', R .. 'b', 0, 'g' .. c)
log('C', c, C.ep, 1)
return 1
