#!lua
-- Tries at a password that does not exist, as those at one that does are judged: how many failed, and when the last one was made.
-- KEYS[1] the tries. ARGV: now in milliseconds; how many are free of a delay, how many are the most, the longest delay in
-- milliseconds; how long they are remembered, without a delay and with one; the step. Returns 0, or the nanoseconds to wait.
local now, free, most, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local short, long, step = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]
local failed, last = 0, now
local kept = redis.call('GET', KEYS[1])
if kept then
  failed, last = string.match(kept, '^(%d+) (-?%d+)$')
  failed, last = tonumber(failed), math.min(tonumber(last), now)
end
local function keep(count, at)
  redis.call('SET', KEYS[1], string.format('%.0f %.0f', count, at), 'PX', count < free and short or long)
end
if step == 'give back' then
  if kept then keep(math.max(0, failed - 1), last) end
  return 0
end
local left = 0
if failed >= most then
  left = longest
elseif failed >= free then
  left = math.max(0, math.min(longest, 2 ^ (failed - free) * 1000) - (now - last))
end
if left > 0 then
  if kept then keep(failed, last) end
  return left * 1000000
end
if step == 'take' then keep(failed + 1, now) end
return 0
