#!lua flags=allow-oom
-- Record when the latest call that succeeded had started.
--
-- KEYS[1]  the recorded time
-- ARGV[1]  ms since the start of this worker's latest call that succeeded

--- include clock.lua
local now = now_ms()
local recorded = tonumber(redis.call('GET', KEYS[1]) or '-1')
if now - ARGV[1] > recorded or recorded > now then
  redis.call('SET', KEYS[1], string.format('%.0f', now - ARGV[1]))
end
