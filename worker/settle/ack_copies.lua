#!lua flags=allow-oom
-- Ack and delete entries of a stream of copies.
--
-- KEYS[1]  the stream
-- ARGV[1]  the group
-- ARGV     then the ids of the entries
-- Reply    how many entries were deleted

redis.call('XACK', KEYS[1], unpack(ARGV))
return redis.call('XDEL', KEYS[1], unpack(ARGV, 2))
