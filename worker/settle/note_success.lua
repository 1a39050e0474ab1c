#!lua flags=allow-oom
-- Record when the latest call that succeeded had started.
--
-- KEYS[1]  the recorded time
-- ARGV[1]  the start of this worker's latest call that succeeded, in ms of the server's clock, or ''
-- Reply    the server's time in ms

--- include clock.lua
local now = now_ms()
local succeeded = tonumber(ARGV[1])
local recorded = tonumber(redis.call('GET', KEYS[1]) or '') or -1
if succeeded and succeeded <= now and (succeeded > recorded or recorded > now) then
  redis.call('SET', KEYS[1], ARGV[1])
end
return now
