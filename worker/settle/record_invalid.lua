#!lua flags=allow-oom
-- Ends entries with an invalid payload that no signature proves: records each once for all groups, and acks it.
-- KEYS: the stream that was read, the record, the ids that were recorded, the totals.
-- ARGV: group, '1' if the stream's entries are copies, most entries, most bytes and most ids to keep; then for each
-- entry its id, the id of its first receipt (ms-seq), a number, and so many values: the names and values to record.
-- Returns how many were recorded, and how many of the oldest were dropped for them.
-- The first calls fail, with nothing written, if a key is of another type.
local count = redis.call('XLEN', KEYS[2])
redis.call('ZCARD', KEYS[3])
local bytes = tonumber(redis.call('HGET', KEYS[4], 'bytes') or 0)
local i, recorded, dropped = 6, 0, 0
while i <= #ARGV do
  local id, first, n = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  if redis.call('XACK', KEYS[1], ARGV[1], id) == 1 then
    if redis.call('ZADD', KEYS[3], 'NX', string.match(first, '^%d+') or 0, first) == 1 then
      redis.call('XADD', KEYS[2], '*', unpack(ARGV, i + 3, i + 2 + n))
      for k = i + 3, i + 2 + n do bytes = bytes + #ARGV[k] end
      count, recorded = count + 1, recorded + 1
    end
    if ARGV[2] == '1' then redis.call('XDEL', KEYS[1], id) end
  end
  i = i + 3 + n
end
while count > 0 and (count > tonumber(ARGV[3]) or bytes > tonumber(ARGV[4])) do
  local oldest = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
  redis.call('XDEL', KEYS[2], oldest[1])
  for _, part in ipairs(oldest[2]) do bytes = bytes - #part end
  count, dropped = count - 1, dropped + 1
end
redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -ARGV[5] - 1)
redis.call('HSET', KEYS[4], 'bytes', string.format('%.0f', bytes))
redis.call('HINCRBY', KEYS[4], 'recorded', recorded)
redis.call('HINCRBY', KEYS[4], 'dropped', dropped)
return {recorded, dropped}
