#!lua
-- Start a replay: record it, and hold the stream so that entries still to be copied are not trimmed.
--
-- KEYS[1]  the names of the registered groups
-- KEYS[2]  the replays of the group, a hash: for each replay its JSON and the fields of Progress
-- KEYS[3]  the stream
-- ARGV[1]  the group
-- ARGV[2]  the id of the replay
-- ARGV[3]  its JSON
-- ARGV[4]  the entry id after which it starts
-- ARGV[5]  the name of the consumer group that holds the stream, or ''
-- ARGV[6]  the person who starts it
-- ARGV[7]  and why
-- Reply    1; 0 if the group is not registered

if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 0 then
  return 0
end
local boundary = ''
if ARGV[5] ~= '' and redis.call('EXISTS', KEYS[3]) == 1 then
  redis.call('XGROUP', 'CREATE', KEYS[3], ARGV[5], ARGV[4])
  local first = redis.call('XRANGE', KEYS[3], '-', '+', 'COUNT', 1)
  if first[1] then
    boundary = first[1][1]
  end
end
local id = ARGV[2]
redis.call('HSET', KEYS[2], id, ARGV[3], id .. ':state', 'running', id .. ':cursor', ARGV[4],
  id .. ':boundary', boundary, id .. ':by', ARGV[6], id .. ':why', ARGV[7])
return 1
