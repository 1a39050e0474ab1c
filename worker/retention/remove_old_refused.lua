#!lua flags=allow-oom
-- Remove payloads that are too old from the quarantine.
--
-- KEYS[1]  the quarantine, a stream
-- KEYS[2]  its index, as in ingest/auth/quarantine.lua
-- ARGV[1]  the greatest age, in ms
-- ARGV[2]  how many payloads to remove at most
-- Reply    how many were removed

--- include clock.lua
local oldest = string.format('(%.0f-0', math.max(now_ms() - ARGV[1], 1))
local payloads = redis.call('XRANGE', KEYS[1], '-', oldest, 'COUNT', ARGV[2])
for _, payload in ipairs(payloads) do
  redis.call('XDEL', KEYS[1], payload[1])
  for i = 1, #payload[2], 2 do
    local budget = payload[2][i] == 'fingerprint' and redis.call('HGET', KEYS[2], payload[2][i + 1])
    if budget then
      redis.call('HDEL', KEYS[2], payload[2][i + 1])
      redis.call('HINCRBY', KEYS[2], 'entries of ' .. budget, -1)
    end
  end
end
return #payloads
