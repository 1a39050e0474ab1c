#!lua flags=allow-oom
-- Pause a group.
--
-- KEYS[1]  the pause, a hash
-- ARGV[1]  the reason
-- ARGV[2]  '1' if the pause lasts until a person ends it
-- ARGV[3]  ms until the pause expires if no worker refreshes it
-- ARGV[4]  ms until the first probe
-- Reply    the reason for which the group is paused
--
-- A pause that lasts until a person ends it has no expiry; no other reason replaces it.

--- include clock.lua
local reason = redis.call('HGET', KEYS[1], 'why')
if reason and (reason == ARGV[1] or ARGV[2] == '0' or redis.call('PTTL', KEYS[1]) < 0) then
  return reason
end
local now = now_ms()
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'why', ARGV[1], 'since', now, 'tries', 0, 'probe', now + ARGV[4])
if ARGV[2] == '0' then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return ARGV[1]
