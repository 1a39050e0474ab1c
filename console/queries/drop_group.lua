#!lua flags=allow-oom
-- Drop a group with all its keys.
--
-- KEYS[1]  the stream
-- KEYS[2]  the names of the registered groups
-- KEYS[3]  the heartbeats of the group
-- KEYS[4]  the replays of the group
-- KEYS     then its other keys
-- ARGV[1]  the group
-- ARGV[2]  '1' to drop it even if a consumer lives
-- ARGV     then the heartbeats seen before: consumer and counter in turn
-- Reply    0 if a heartbeat has moved since or is new; 1 if the group is dropped
--
-- The consumer groups that hold the stream for its replays (Replay.hold) are dropped too.

local seen = {}
for i = 3, #ARGV, 2 do
  seen[ARGV[i]] = ARGV[i + 1]
end
local beats = redis.call('HGETALL', KEYS[3])
for i = 1, #beats, 2 do
  if ARGV[2] == '0' and seen[beats[i]] ~= beats[i + 1] then
    return 0
  end
end
redis.call('SREM', KEYS[2], ARGV[1])
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('XGROUP', 'DESTROY', KEYS[1], ARGV[1])
  for _, replay in ipairs(redis.call('HKEYS', KEYS[4])) do
    redis.call('XGROUP', 'DESTROY', KEYS[1], 'replay/' .. replay)
  end
end
for i = 3, #KEYS do
  redis.call('UNLINK', KEYS[i])
end
return 1
