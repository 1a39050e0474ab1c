#!lua flags=allow-oom
-- Change the rate of a replay that has not ended.
--
-- KEYS[1]  the replays of the group
-- ARGV[1]  the id of the replay
-- ARGV[2]  the new rate, in copies a second
-- ARGV     then the states in which a replay has ended
-- Reply    the state; nil if there is no such replay

local state = redis.call('HGET', KEYS[1], ARGV[1] .. ':state')
for i = 3, #ARGV do
  if state == ARGV[i] then
    return state
  end
end
if state then
  redis.call('HSET', KEYS[1], ARGV[1] .. ':rate', ARGV[2])
end
return state
