#!lua flags=allow-oom
-- Mark the suspected entries that a consumer is about to handle.
--
-- KEYS[1]  the poison hash
-- ARGV[1]  the consumer
-- ARGV[2]  the marked entries, each between blanks
-- ARGV[3]  ms until the poison hash expires

redis.call('HSET', KEYS[1], 'mark:' .. ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
