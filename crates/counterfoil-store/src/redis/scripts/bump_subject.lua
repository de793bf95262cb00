-- ARGV: subject, 1 for the keys too, the token to keep or empty.
local s, keys_too = ARGV[5], ARGV[6] == '1'
local S = subject(s)
if not S then
  -- Its row may have been evicted, and nodes may know tokens of it.
  log('s', s)
  return 0
end
local kept
if ARGV[7] ~= '' then
  local t, _, C = load(ARGV[7])
  if t and t.s == s and is_live(t, S, C) then kept = t end
end
S.le, S.la = S.le + 1, now
if keys_too then S.ke, S.ka = S.ke + 1, now end
call('HSET', R .. 's:' .. s, 'le', S.le, 'la', S.la, 'ke', S.ke, 'ka', S.ka)
call('ZADD', R .. 'b', now, 'l' .. s)
if keys_too then call('ZADD', R .. 'b', now, 'k' .. s) end
if kept then
  kept.es = stands_at(kept, S)
  put(ARGV[7], kept)
end
log('S', s, S.st, S.le, S.ke)
return 1
