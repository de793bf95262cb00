-- ARGV: subject (empty: nobody), tries that are free, the most, the longest delay in seconds. As `Tries::judge` has it.
local s, free, most, longest = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local key = R .. 'a:' .. s
local v = call('HMGET', key, 'failed', 'last')
local failed, last = tonumber(v[1] or '0'), tonumber(v[2] or '0')
-- The same is read and written for a name that nobody has, and says nothing.
if s == '' then failed = 0 end
last = math.min(last, now)
local wait = 0
if failed >= most then
  wait = longest
elseif failed >= free then
  local left = math.min(longest, 2 ^ (failed - free)) * 1000 - (now - last)
  if left > 0 then wait = math.ceil(left / 1000) end
end
if wait == 0 then failed, last = failed + 1, now end
call('HSET', key, 'failed', failed, 'last', last)
return wait
