#!lua flags=allow-oom
-- Ack entries of the live stream.
--
-- KEYS[1]  the stream
-- ARGV[1]  the group
-- ARGV     then the ids of the entries
-- Reply    how many were acked

return redis.call('XACK', KEYS[1], unpack(ARGV))
