#!lua flags=allow-oom
-- Ack entries whose payload is invalid and not proven by a signature, and record each payload once for all groups.
--
-- KEYS[1]  the stream that was read
-- KEYS[2]  the record
-- KEYS[3]  the ids that were recorded, a sorted set
-- KEYS[4]  the totals, a hash
-- ARGV[1]  the group
-- ARGV[2]  '1' if the entries are copies, which are deleted
-- ARGV[3]  how many payloads are kept at most
-- ARGV[4]  how many bytes are kept at most
-- ARGV[5]  how many ids are kept at most
-- ARGV     then for each entry: its id; the id of its first receipt (ms-seq); how many names and values follow; the
--          names and values to record
-- Reply    how many were recorded, and how many of the oldest were dropped for them
--
-- XLEN and ZCARD fail before anything is written if a key has another type.

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
