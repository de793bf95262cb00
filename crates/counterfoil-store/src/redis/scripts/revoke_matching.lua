-- ARGV: the number to go on behind, how many to revoke at most, how many to look at, a filter.
local f, most, looks = filter(8), tonumber(ARGV[6]), tonumber(ARGV[7])
local page = ids(f, ARGV[5], looks)
if not page then return DAMAGED end
local named, revoked, last = {}, {}, ARGV[5]
local done = #page < 2 * looks and 1 or 0
for at = 1, #page, 2 do
  if #revoked == most then
    done = 0
    break
  end
  local id = page[at]
  local t, S, C = load(id)
  if not t and was_evicted(id) then return DAMAGED end
  last = page[at + 1]
  if t and is_meant(t, C, f) and is_live(t, S, C) then
    revoke(id, t)
    for _, digest in ipairs(digests(t)) do named[#named + 1] = digest end
    revoked[#revoked + 1] = id
  end
end
if #revoked > 0 then log('R', named, revoked) end
return { last, done, #revoked }
