#!lua flags=allow-oom
-- Move delayed retries that are due to the retry stream.
--
-- KEYS[1]  the delayed retries, a sorted set by due time
-- KEYS[2]  the retry stream
-- ARGV[1]  how many to move at most
-- ARGV[2]  the longest delay, in ms
-- ARGV[3]  the length of the retry stream from which nothing is moved
-- Reply    how many were moved
--
-- A retry that is due later than any delay allows was made before the clock of the server stepped back: it is due now.

--- include clock.lua
--- include unpack_copy.lua
if redis.call('XLEN', KEYS[2]) >= tonumber(ARGV[3]) then
  return 0
end
local now = now_ms()
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
if #due == 0 then
  due = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now + ARGV[2], '+inf', 'LIMIT', 0, ARGV[1])
end
for _, copy in ipairs(due) do
  redis.call('XADD', KEYS[2], '*', unpack(unpack_copy(copy)))
  redis.call('ZREM', KEYS[1], copy)
end
return #due
