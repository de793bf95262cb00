-- ARGV: the number to go on behind, how many to revoke at most, how many to look at, a filter.
local f, most, looks = filter(8), tonumber(ARGV[6]), tonumber(ARGV[7])
local page = ids(f, ARGV[5], looks)
if not page then return DAMAGED end
local named, revoked, last = {}, {}, ARGV[5]
local done, damaged = #page < 2 * looks and 1 or 0, false
for at = 1, #page, 2 do
  if #revoked == most then
    done = 0
    break
  end
  local id = page[at]
  local t, S, C = load(id)
  if not t and was_evicted(id) then
    damaged = true
    break
  end
  last = page[at + 1]
  if t and is_meant(t, C, f) and is_live(t, S, C) then
    revoke(id, t)
    for _, digest in ipairs(digests(t)) do named[#named + 1] = digest end
    revoked[#revoked + 1] = id
  end
end
-- What is revoked by then stays so, and nodes have to hear of it.
if #revoked > 0 then log('R', named, revoked) end
if damaged then return DAMAGED end
return { last, done, #revoked }
