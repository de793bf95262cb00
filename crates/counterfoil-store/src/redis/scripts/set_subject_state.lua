-- ARGV: subject, state.
local s, st = ARGV[5], ARGV[6]
local S = subject(s)
if not S then
  -- Its row may have been evicted, and nodes may know tokens of it.
  log('s', s)
  return false
end
if S.st == 'b' then return false end
call('HSET', R .. 's:' .. s, 'st', st, 'at', now)
if st == 'b' then
  call('DEL', R .. 'a:' .. s)
  call('ZADD', R .. 'b', now, 'x' .. s)
end
log('S', s, st, S.le, S.ke)
return { st, S.le, S.ke }
