#!lua flags=allow-oom
-- Ack entries, if any, and remember marks of events, so that a repeat is recognised.
--
-- KEYS[1]  the stream
-- KEYS[2]  the marks, a sorted set by time
-- ARGV[1]  the group
-- ARGV[2]  '1' if the entries are copies, which are deleted
-- ARGV[3]  how long a mark is kept, in ms
-- ARGV[4]  how many marks are kept
-- ARGV[5]  the marks, 16 bytes each
-- ARGV     then the ids of the entries
--
-- A full server takes the marks, because they are few bytes. ZCARD fails before anything is written if the key has
-- another type.

--- include clock.lua
redis.call('ZCARD', KEYS[2])
if #ARGV > 5 then
  redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, 6))
end
if #ARGV > 5 and ARGV[2] == '1' then
  redis.call('XDEL', KEYS[1], unpack(ARGV, 6))
end
local now = now_ms()
local marks, n = {}, 0
for i = 1, #ARGV[5], 16 do
  marks[n + 1], marks[n + 2] = now, string.sub(ARGV[5], i, i + 15)
  n = n + 2
end
redis.call('ZADD', KEYS[2], unpack(marks))
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[3])
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -ARGV[4] - 1)
return redis.call('PEXPIRE', KEYS[2], ARGV[3])
