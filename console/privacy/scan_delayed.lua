#!lua flags=no-writes
-- Read some delayed retries, as they are packed and unpacked.
--
-- KEYS[1]  the delayed retries, a sorted set
-- ARGV[1]  the cursor of ZSCAN
-- ARGV[2]  about how many to read
-- Reply    the next cursor, then for each: the packed copy, and its names and values

--- include unpack_copy.lua
local cursor, copies = unpack(redis.call('ZSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2]))
local reply = {cursor}
for i = 1, #copies, 2 do
  reply[#reply + 1] = {copies[i], unpack_copy(copies[i])}
end
return reply
