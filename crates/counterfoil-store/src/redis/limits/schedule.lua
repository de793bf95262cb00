#!lua
-- The generic cell rate algorithm: when the next one is due, as milliseconds and nanoseconds, because nanoseconds since 1970 are
-- more than a number here can hold. KEYS[1] the schedule. ARGV: now and slack in milliseconds, period and spacing in nanoseconds,
-- the step. Returns 0, or the nanoseconds to wait.
local now, slack, period, spacing = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local step = ARGV[5]
local MILLI = 1000000
local function keep(ms, ns)
  ms, ns = ms + math.floor(ns / MILLI), ns % MILLI
  redis.call('SET', KEYS[1], string.format('%.0f %.0f', ms, ns), 'PX', math.max(1, ms - now) + slack)
end
local kept = redis.call('GET', KEYS[1])
local millis, nanos = now, 0
if kept then
  millis, nanos = string.match(kept, '^(-?%d+) (%d+)$')
  millis, nanos = tonumber(millis), tonumber(nanos)
  if millis > now + slack + period / MILLI then
    -- The clock was set back. What lies ahead counts as of now, once, and not until the old time has come again.
    millis, nanos = now + period / MILLI, 0
    keep(millis, nanos)
  end
end
if step == 'give back' then
  if kept then keep(millis, nanos - spacing) end
  return 0
end
if millis < now then millis, nanos = now, 0 end
local early = (millis - now) * MILLI + nanos
if early > period - spacing then return early - (period - spacing) end
if step == 'take' then keep(millis, nanos + spacing) end
return 0
