#!lua flags=allow-oom
-- End the pause of a group if it is paused for this reason.
--
-- KEYS[1]  the pause, a hash
-- ARGV[1]  the reason
-- Reply    the other reason for which the group stays paused, or ''

local reason = redis.call('HGET', KEYS[1], 'why') or ''
if reason ~= ARGV[1] then
  return reason
end
redis.call('DEL', KEYS[1])
return ''
