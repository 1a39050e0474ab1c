#!lua flags=allow-oom
-- Take the turn to probe a paused group, if a probe is due.
--
-- KEYS[1]  the pause, a hash
-- KEYS[2]  the heartbeats of the group
-- ARGV[1]  the reason that allows probes
-- ARGV[2]  ms until the pause expires if no worker refreshes it
-- ARGV[3]  ms that a turn lasts
-- ARGV[4]  the longest delay between probes, in ms
-- ARGV[5]  the consumer
-- Reply    1 if this consumer probes now, else 0
--
-- The turn of a consumer without a heartbeat is over. A probe that is due later than turn and delay allow was planned
-- before the clock of the server stepped back: it is due now.

--- include clock.lua
if redis.call('HGET', KEYS[1], 'why') ~= ARGV[1] then
  return 0
end
local now = now_ms()
local wait = (tonumber(redis.call('HGET', KEYS[1], 'probe') or '') or now) - now
local prober = redis.call('HGET', KEYS[1], 'prober')
local has_gone = prober and redis.call('HEXISTS', KEYS[2], prober) == 0
if not has_gone and wait > 0 and wait <= math.max(tonumber(ARGV[3]), tonumber(ARGV[4])) then
  return 0
end
local tries = tonumber(redis.call('HGET', KEYS[1], 'tries') or '') or 0
redis.call('HSET', KEYS[1], 'tries', tries + 1, 'probe', now + ARGV[3], 'prober', ARGV[5])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
