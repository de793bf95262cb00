-- ARGV: the number to go on behind, how many to look at, a filter. Counts what is live.
local f, looks = filter(7), tonumber(ARGV[6])
local page = ids(f, ARGV[5], looks)
if not page then return DAMAGED end
local count = 0
for at = 1, #page, 2 do
  local t, S, C = load(page[at])
  if t and is_meant(t, C, f) and is_live(t, S, C) then count = count + 1 end
end
return { page[#page] or ARGV[5], #page < 2 * looks and 1 or 0, count }
