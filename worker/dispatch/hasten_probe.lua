#!lua flags=allow-oom
-- Make the next probe of a paused group due at once.
--
-- KEYS[1]  the pause, a hash
-- ARGV[1]  the reason that allows probes
-- Reply    the reason for which the group is paused, or ''; 1 if a probe runs already, else 0

--- include clock.lua
local reason = redis.call('HGET', KEYS[1], 'why') or ''
local runs = redis.call('HEXISTS', KEYS[1], 'prober')
if reason == ARGV[1] and runs == 0 then
  redis.call('HSET', KEYS[1], 'probe', now_ms())
end
return {reason, runs}
