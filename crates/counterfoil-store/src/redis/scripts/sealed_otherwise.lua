-- ARGV: the number to go on behind, how many at most, how many to look at, the key.
local most, looks, key = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local page = call('ZRANGEBYSCORE', R .. 'x', '(' .. ARGV[5], '+inf', 'WITHSCORES', 'LIMIT', 0, looks)
local rows, last = {}, ARGV[5]
for at = 1, #page, 2 do
  if #rows == most then return { last, 0, rows } end
  local t = load(page[at])
  last = page[at + 1]
  if t and t.x and t.x[1] ~= key then rows[#rows + 1] = sealed_secret(page[at], t) end
end
return { last, #page < 2 * looks and 1 or 0, rows }
