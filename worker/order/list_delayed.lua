#!lua flags=allow-oom,no-writes
-- List some of the delayed retries.
--
-- KEYS[1]  the delayed retries, a sorted set by due time
-- ARGV[1]  the cursor, 0 at first
-- ARGV[2]  about how many to list
-- Reply    the next cursor, 0 at the end; for each retry the ms until it is due, and its field names and values

--- include clock.lua
--- include unpack_copy.lua
local now = now_ms()
local found = redis.call('ZSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local reply = {found[1]}
for i = 1, #found[2], 2 do
  reply[#reply + 1] = {string.format('%.0f', found[2][i + 1] - now), unpack_copy(found[2][i])}
end
return reply
