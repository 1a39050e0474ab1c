#!lua flags=allow-oom
-- Read the pause of a group and refresh its expiry.
--
-- KEYS[1]  the pause, a hash
-- KEYS[2]  the dead letters
-- ARGV[1]  the reason that lasts until a person ends the pause
-- ARGV[2]  ms until any other pause expires
-- Reply    the reason, or '' if the group is not paused; the number of dead letters

local reason = redis.call('HGET', KEYS[1], 'why') or ''
if reason ~= '' and reason ~= ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return {reason, redis.call('XLEN', KEYS[2])}
