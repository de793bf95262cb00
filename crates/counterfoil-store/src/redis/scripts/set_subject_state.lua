-- ARGV: subject, state.
local s, st = ARGV[5], ARGV[6]
local S = subject(s)
if not S or S.st == 'b' then return false end
call('HSET', R .. 's:' .. s, 'st', st, 'at', now)
if st == 'b' then
  call('DEL', R .. 'a:' .. s)
  call('ZADD', R .. 'b', now, 'x' .. s)
end
log('S', s, st, S.le, S.ke)
return { st, S.le, S.ke }
