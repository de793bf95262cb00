-- ARGV: subject.
local S = subject(ARGV[5])
if S then return { S.st, S.le, S.ke } end
-- A row that was evicted leaves an index behind, of tokens that are nobody's any more; nodes may know some of them.
if call('UNLINK', R .. 'i:' .. ARGV[5]) == 1 then log('s', ARGV[5]) end
call('HSET', R .. 's:' .. ARGV[5], 'st', 'a', 'at', now, 'le', 0, 'la', 0, 'ke', 0, 'ka', 0, 'g', string.sub(ARGV[3], 1, 4),
  'cnt', 0)
return { 'a', 0, 0 }
