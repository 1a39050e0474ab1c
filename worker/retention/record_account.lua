#!lua flags=allow-oom
-- Record the loss account of a stream, if this process holds the lease of the trimmer.
--
-- KEYS[1]  the lease
-- KEYS[2]  the loss account
-- ARGV[1]  the token of the lease
-- ARGV     then length, added, gone

if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('HSET', KEYS[2], 'length', ARGV[2], 'added', ARGV[3], 'gone', ARGV[4])
end
