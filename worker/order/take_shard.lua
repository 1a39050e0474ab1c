#!lua flags=allow-oom
-- Take a shard for a group if it has no owner, or its owner is dead: its heartbeat has not moved, or is gone.
--
-- KEYS[1]  the owner
-- KEYS[2]  the heartbeats
-- ARGV[1]  the consumer
-- ARGV[2]  the owner as observed, or ''
-- ARGV[3]  the counter of its heartbeat as observed, or ''
-- Reply    1 if the consumer owns the shard now, else 0

local owner = redis.call('GET', KEYS[1]) or ''
if owner ~= ARGV[2] or (owner ~= '' and (redis.call('HGET', KEYS[2], owner) or '') ~= ARGV[3]) then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1])
return 1
