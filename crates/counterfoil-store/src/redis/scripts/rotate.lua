-- ARGV: id, the digest that was presented, the one that follows, the key of its seal, its sealed bytes or empty, the end of
-- the grace.
local id, presented, successor, grace = ARGV[5], ARGV[6], ARGV[7], tonumber(ARGV[10])
local t, S, C = load(id)
if not t or not is_accepted(t, S, C) then return { 'dead' } end
local is_current = t.d == presented
local may = is_current
if not may and t.u then
  for _, old in ipairs(t.q or {}) do
    if old[1] == presented and not old[5] and now < old[4] then may = true end
  end
end
if not may then return { 'dead' } end
if is_known(successor) then return { 'taken' } end
local ended, graces = { t.d }, { is_current and grace or 0 }
t.q = t.q or {}
if is_current then
  -- A secret rotated away ends every grace before its own: there is one way back, not a chain of them.
  for _, old in ipairs(t.q) do
    if old[4] > 0 then
      old[4] = 0
      ended[#ended + 1], graces[#graces + 1] = old[1], 0
    end
  end
end
t.q[#t.q + 1] = { t.d, t.h or '', now, is_current and grace or 0, not is_current }
call('ZADD', R .. 'q', now, t.d .. id)
t.d, t.h, t.u = successor, nil, true
call('ZREM', R .. 'x', id)
t.x = nil
if ARGV[9] ~= '' then
  t.x = { tonumber(ARGV[8]), ARGV[9] }
  call('ZADD', R .. 'x', t.n, id)
end
put(id, t)
name_digest(successor, id, t)
log('G', ended, graces)
return { 'rotated', record(id, t, S, C) }
