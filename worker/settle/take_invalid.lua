-- Takes one payload out of the record, for good or to give it to the groups again.
-- KEYS: the record, the ids that were recorded, the totals, the stream.
-- ARGV: its id in the record, 'discarded' or 'replayed'; for a replay the id of its first receipt (ms-seq), then the
-- names and values of the entry to append.
-- Returns 1; 0 if it is not there any more. A full server refuses the whole.
local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not found then return 0 end
if ARGV[2] == 'replayed' then
  redis.call('XADD', KEYS[4], '*', unpack(ARGV, 4))
  redis.call('ZREM', KEYS[2], ARGV[3])
end
redis.call('XDEL', KEYS[1], ARGV[1])
local bytes = 0
for _, part in ipairs(found[2]) do bytes = bytes + #part end
redis.call('HINCRBY', KEYS[3], 'bytes', -bytes)
redis.call('HINCRBY', KEYS[3], ARGV[2], 1)
return 1
