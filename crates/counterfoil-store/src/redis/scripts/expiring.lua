-- ARGV: from, until, how many to pass over, how many to look at, the number behind which to begin at `from` or empty.
local looks = tonumber(ARGV[8])
local from, behind = tonumber(ARGV[5]), number(ARGV[9])
local page = call('ZRANGEBYSCORE', R .. 'e', ARGV[5], '(' .. ARGV[6], 'LIMIT', ARGV[7], looks)
local rows = {}
for _, member in ipairs(page) do
  local id = string.sub(member, 17)
  local t, S, C = load(id)
  if t and not t.r and not (behind and t.e == from and t.n <= behind) then rows[#rows + 1] = record(id, t, S, C) end
end
return { #page < looks and 1 or 0, rows }
