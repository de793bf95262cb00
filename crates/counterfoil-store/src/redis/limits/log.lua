#!lua
-- One more in a sliding log: a list of the instants of those that were let through, oldest first, in milliseconds.
-- KEYS[1] the log. ARGV: now, period and slack in milliseconds, the number. Returns 0, or the nanoseconds to wait.
local now, period, slack, number = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local log = KEYS[1]
local newest = redis.call('LINDEX', log, -1)
if newest then
  newest = tonumber(newest)
  if newest > now + slack then
    -- The clock was set back. What lies ahead counts as of now, once, and not until the old time has come again.
    local kept = redis.call('LRANGE', log, 0, -1)
    redis.call('DEL', log)
    for _, at in ipairs(kept) do redis.call('RPUSH', log, math.min(tonumber(at), now)) end
  elseif newest > now then
    now = newest
  end
end
local oldest = redis.call('LINDEX', log, 0)
while oldest and now >= tonumber(oldest) + period do
  redis.call('LPOP', log)
  oldest = redis.call('LINDEX', log, 0)
end
local length = redis.call('LLEN', log)
if length < number then
  redis.call('RPUSH', log, now)
  redis.call('PEXPIRE', log, period + slack)
  return 0
end
-- A lowered number may have left more in the log than it allows: all but number - 1 must leave first.
return (tonumber(redis.call('LINDEX', log, length - number)) + period - now) * 1000000
