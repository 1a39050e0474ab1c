#!lua flags=allow-oom
-- Record the loss account of a stream, if this process holds the lease of the trimmer.
--
-- KEYS[1]  the lease
-- KEYS[2]  the loss account
-- ARGV[1]  the token of the lease
-- ARGV     then length, added, gone; and the same as they were recorded before, '' for each without a record
--
-- A record with another value than a number counts as none.
--
-- `ackstream erase` changes the account too. If it did so since the survey, the next survey has both, and records them.

local before = redis.call('HMGET', KEYS[2], 'length', 'added', 'gone')
local is_whole = tonumber(before[1]) and tonumber(before[2]) and tonumber(before[3])
for i = 1, 3 do
  if (is_whole and before[i] or '') ~= ARGV[4 + i] then
    return
  end
end
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('HSET', KEYS[2], 'length', ARGV[2], 'added', ARGV[3], 'gone', ARGV[4])
end
