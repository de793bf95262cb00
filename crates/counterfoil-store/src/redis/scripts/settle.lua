-- ARGV: id, the digest of the successor.
local id = ARGV[5]
local t = load(id)
if not t or not t.u or t.d ~= ARGV[6] then return 0 end
t.u = nil
local closed, graces = {}, {}
for _, old in ipairs(t.q or {}) do
  -- Not the instant, and those that have run out too: a clock that is set back must not open it again.
  if old[4] > 0 then
    old[4] = 0
    closed[#closed + 1], graces[#graces + 1] = old[1], 0
  end
end
put(id, t)
log('G', closed, graces)
return 1
