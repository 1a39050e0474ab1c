#!lua flags=allow-oom
-- Claim the pending entries of a dead consumer, and count what that says of each of them.
--
-- KEYS[1]  the heartbeats
-- KEYS[2]  the poison hash: marks of consumers, claims and deaths of entries
-- KEYS     then the streams
-- ARGV[1]  the group
-- ARGV[2]  the consumer that claims
-- ARGV[3]  the dead consumer
-- ARGV[4]  its heartbeat counter as observed, or '' if it left in order, which counts against no entry
-- ARGV[5]  how many entries to claim at most
-- ARGV[6]  ms until the poison hash expires
-- ARGV     then the names of the streams in the poison hash
-- Reply    nil: it is alive. Empty: it had no entries and is removed. Else the place of the stream, its entries, and for
--          each entry its claims and its deaths

if (redis.call('HGET', KEYS[1], ARGV[3]) or '') ~= ARGV[4] then
  return false
end
local died = ARGV[4] ~= ''
local marked = died and redis.call('HGET', KEYS[2], 'mark:' .. ARGV[3])

--- include count_claim.lua
for k = 3, #KEYS do
  local pending = redis.call('XPENDING', KEYS[k], ARGV[1], '-', '+', ARGV[5], ARGV[3])
  if #pending > 0 then
    local ids, counts = {}, {}
    for i, entry in ipairs(pending) do
      ids[i] = entry[1]
    end
    local entries = redis.call('XCLAIM', KEYS[k], ARGV[1], ARGV[2], 0, unpack(ids))
    for i, entry in ipairs(entries) do
      counts[2 * i - 1], counts[2 * i] = count_claim(KEYS[2], ARGV[4 + k] .. ':' .. entry[1], died, marked)
    end
    redis.call('PEXPIRE', KEYS[2], ARGV[6])
    return {k - 3, entries, counts}
  end
end
for k = 3, #KEYS do
  redis.call('XGROUP', 'DELCONSUMER', KEYS[k], ARGV[1], ARGV[3])
end
redis.call('HDEL', KEYS[1], ARGV[3])
redis.call('HDEL', KEYS[2], 'mark:' .. ARGV[3])
return {}
