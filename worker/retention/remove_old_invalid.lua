#!lua flags=allow-oom
-- Remove invalid payloads that are too old from the record.
--
-- KEYS[1]  the record
-- KEYS[2]  the totals, a hash
-- ARGV[1]  the greatest age, in ms
-- ARGV[2]  how many payloads to remove at most
-- Reply    how many were removed

--- include clock.lua
local oldest = string.format('(%.0f-0', math.max(now_ms() - ARGV[1], 1))
local payloads, bytes = redis.call('XRANGE', KEYS[1], '-', oldest, 'COUNT', ARGV[2]), 0
for _, payload in ipairs(payloads) do
  redis.call('XDEL', KEYS[1], payload[1])
  for _, part in ipairs(payload[2]) do
    bytes = bytes + #part
  end
end
if #payloads > 0 then
  redis.call('HINCRBY', KEYS[2], 'bytes', -bytes)
  redis.call('HINCRBY', KEYS[2], 'dropped', #payloads)
end
return #payloads
