-- ARGV: the number to go on behind, how many at most, how many to look at, the instant to be live at or empty, a filter.
local f, most, looks, live_at = filter(9), tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8] ~= ''
local page = ids(f, ARGV[5], looks)
if not page then return DAMAGED end
local rows, last = {}, ARGV[5]
for at = 1, #page, 2 do
  if #rows == most then return { last, 0, rows } end
  local t, S, C = load(page[at])
  last = page[at + 1]
  if t and is_meant(t, C, f) and (not live_at or is_accepted(t, S, C)) then rows[#rows + 1] = record(page[at], t, S, C) end
end
return { last, #page < 2 * looks and 1 or 0, rows }
