#!lua flags=allow-oom,no-writes
-- Find delayed retries that contain one of some texts.
--
-- KEYS[1]  the delayed retries, a sorted set by due time
-- ARGV[1]  the rank of the first one to look at
-- ARGV[2]  how many to look at
-- ARGV     then the texts
-- Reply    how many were looked at; then for each match the time at which it is due, in ms, and its names and values

--- include unpack_copy.lua
local first, count = tonumber(ARGV[1]), tonumber(ARGV[2])
local members = redis.call('ZRANGE', KEYS[1], first, first + count - 1, 'WITHSCORES')
local reply = {#members / 2}
for i = 1, #members, 2 do
  for k = 3, #ARGV do
    if string.find(members[i], ARGV[k], 1, true) then
      reply[#reply + 1] = {members[i + 1], unpack_copy(members[i])}
      break
    end
  end
end
return reply
