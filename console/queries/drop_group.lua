#!lua flags=allow-oom
-- Drop a group with all its keys.
--
-- KEYS[1]  the stream
-- KEYS[2]  the names of the registered groups
-- KEYS[3]  the heartbeats of the group
-- KEYS[4]  the replays of the group
-- KEYS     then the other keys of the group
-- ARGV[1]  the group
-- ARGV[2]  '1' to drop it even if a consumer is alive
-- ARGV     then the heartbeats read before: pairs of consumer and counter
-- Reply    1 if the group is dropped, 0 if a heartbeat is new or has advanced since
--
-- A key of another type fails before anything is written, so that the drop can be repeated.
-- The consumer groups that hold the stream for its replays (Replay.hold) are dropped too.

local counters = {}
for i = 3, #ARGV, 2 do
  counters[ARGV[i]] = ARGV[i + 1]
end
local beats = redis.call('HGETALL', KEYS[3])
for i = 1, #beats, 2 do
  if ARGV[2] == '0' and counters[beats[i]] ~= beats[i + 1] then
    return 0
  end
end
redis.call('SISMEMBER', KEYS[2], ARGV[1])
local replays = redis.call('HKEYS', KEYS[4])
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('XGROUP', 'DESTROY', KEYS[1], ARGV[1])
  for _, replay in ipairs(replays) do
    redis.call('XGROUP', 'DESTROY', KEYS[1], 'replay/' .. replay)
  end
end
redis.call('SREM', KEYS[2], ARGV[1])
for i = 3, #KEYS do
  redis.call('UNLINK', KEYS[i])
end
return 1
