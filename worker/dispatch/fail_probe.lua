#!lua flags=allow-oom
-- End the turn of a probe that failed, and plan the next probe.
--
-- KEYS[1]  the pause, a hash
-- ARGV[1]  the reason that allows probes
-- ARGV[2]  the first delay between probes, in ms
-- ARGV[3]  the longest delay, in ms
-- ARGV[4]  the jitter, a factor

--- include clock.lua
if redis.call('HGET', KEYS[1], 'why') ~= ARGV[1] then
  return
end
local tries = math.min(tonumber(redis.call('HGET', KEYS[1], 'tries') or '') or 1, 30)
local delay = math.min(tonumber(ARGV[3]), ARGV[2] * 2 ^ tries) * tonumber(ARGV[4])
redis.call('HSET', KEYS[1], 'probe', math.floor(now_ms() + delay))
redis.call('HDEL', KEYS[1], 'prober')
