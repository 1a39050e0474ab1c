#!lua flags=allow-oom
-- Read the pause of a group and refresh its expiry.
--
-- KEYS[1]  the pause, a hash
-- ARGV[1]  ms until the pause expires, unless it lasts until a person ends it
-- Reply    the reason, or '' if the group is not paused

local reason = redis.call('HGET', KEYS[1], 'why') or ''
if reason ~= '' and redis.call('PTTL', KEYS[1]) >= 0 then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return reason
