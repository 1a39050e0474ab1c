#!lua flags=allow-oom
-- Change the state of a replay.
--
-- KEYS[1]  the replays of the group
-- KEYS[2]  the stream
-- ARGV[1]  the id of the replay
-- ARGV[2]  the new state
-- ARGV[3]  the error, or ''
-- ARGV[4]  the name of the consumer group that holds the stream, or ''
-- ARGV[5]  '1' if the new state is final
-- ARGV[6]  the person who changes it, or ''
-- ARGV[7]  and why, or ''
-- ARGV     then the states from which the change is allowed
-- Reply    the state before; nil if there is no such replay

--- include clock.lua
local state = redis.call('HGET', KEYS[1], ARGV[1] .. ':state')
for i = 8, #ARGV do
  if state == ARGV[i] then
    redis.call('HSET', KEYS[1], ARGV[1] .. ':state', ARGV[2], ARGV[1] .. ':error', ARGV[3],
      ARGV[1] .. ':moved', now_ms(), ARGV[1] .. ':moved_by', ARGV[6], ARGV[1] .. ':moved_why', ARGV[7])
    if ARGV[5] == '1' and ARGV[4] ~= '' and redis.call('EXISTS', KEYS[2]) == 1 then
      redis.call('XGROUP', 'DESTROY', KEYS[2], ARGV[4])
    end
  end
end
return state
