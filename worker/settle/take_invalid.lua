-- Take a payload out of the record of invalid payloads: discard it, or give it to the groups again.
--
-- KEYS[1]  the record
-- KEYS[2]  the ids that were recorded
-- KEYS[3]  the totals
-- KEYS[4]  the stream
-- ARGV[1]  the id of the payload in the record
-- ARGV[2]  'discarded' or 'replayed'
-- ARGV[3]  for a replay: the id of its first receipt (ms-seq)
-- ARGV     then the names and values of the entry to append
-- Reply    1; 0 if the payload is not in the record
--
-- A full server refuses the whole script, so nothing is taken out and lost.

local payload = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not payload then return 0 end
if ARGV[2] == 'replayed' then
  redis.call('XADD', KEYS[4], '*', unpack(ARGV, 4))
  redis.call('ZREM', KEYS[2], ARGV[3])
end
redis.call('XDEL', KEYS[1], ARGV[1])
local bytes = 0
for _, part in ipairs(payload[2]) do bytes = bytes + #part end
redis.call('HINCRBY', KEYS[3], 'bytes', -bytes)
redis.call('HINCRBY', KEYS[3], ARGV[2], 1)
return 1
