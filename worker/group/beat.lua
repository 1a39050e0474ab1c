#!lua flags=allow-oom
-- Count a heartbeat. A full server refuses HINCRBY alone but takes it in this script, so no consumer seems dead.
--
-- KEYS[1]  the heartbeats
-- ARGV[1]  the consumer
-- Reply    its new counter

return redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
