-- Remove a refused payload from the quarantine, and append it to the stream if fields are given.
--
-- KEYS[1]  the quarantine, a stream
-- KEYS[2]  its index, as in ingest/auth/quarantine.lua
-- KEYS[3]  the stream to append to
-- ARGV[1]  the entry's id in the quarantine
-- ARGV[2]  the payload's fingerprint
-- ARGV     then the field names and values to append, if any
-- Reply    1, or 0 if the payload is not in the quarantine
--
-- The script appends before it removes: if the append fails, the payload is still in the quarantine.

if #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) == 0 then
  return 0
end
if #ARGV > 2 then
  redis.call('XADD', KEYS[3], '*', unpack(ARGV, 3))
end
redis.call('XDEL', KEYS[1], ARGV[1])
local budget = redis.call('HGET', KEYS[2], ARGV[2])
if budget then
  redis.call('HDEL', KEYS[2], ARGV[2])
  redis.call('HINCRBY', KEYS[2], 'entries of ' .. budget, -1)
end
return 1
