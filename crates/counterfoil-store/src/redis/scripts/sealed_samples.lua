-- ARGV: the number to go on behind, how many to look at. The last one of each key stays.
local looks = tonumber(ARGV[6])
local page = call('ZRANGEBYSCORE', R .. 'x', '(' .. ARGV[5], '+inf', 'WITHSCORES', 'LIMIT', 0, looks)
local by_key, rows = {}, {}
for at = 1, #page, 2 do
  local t, S, C = load(page[at])
  if t and t.x and is_live(t, S, C) then by_key[t.x[1]] = sealed_secret(page[at], t) end
end
for _, secret in pairs(by_key) do rows[#rows + 1] = secret end
return { page[#page] or ARGV[5], #page < 2 * looks and 1 or 0, rows }
