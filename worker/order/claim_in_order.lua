#!lua flags=allow-oom
-- Claim the pending entries of all other consumers of a stream, in the order of their ids.
--
-- KEYS[1]  the stream
-- KEYS[2]  the heartbeats
-- KEYS[3]  the poison hash: marks of consumers, claims and deaths of entries
-- ARGV[1]  the group
-- ARGV[2]  the consumer that claims
-- ARGV[3]  the first id to claim, as XPENDING takes it
-- ARGV[4]  how many pending entries to look at
-- ARGV[5]  ms until the poison hash expires
-- ARGV[6]  the name of the stream in the poison hash
-- Reply    the last id that was looked at, or '' if there are no more; the entries; for each its claims and its deaths
--
-- A consumer that has a heartbeat counter did not leave in order: its entries count as claimed from a dead worker.

--- include count_claim.lua
local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], '+', ARGV[4])
local ids, owners = {}, {}
for _, entry in ipairs(pending) do
  if entry[2] ~= ARGV[2] then
    ids[#ids + 1] = entry[1]
    owners[entry[1]] = entry[2]
  end
end
local last = #pending > 0 and pending[#pending][1] or ''
if #ids == 0 then
  return {last, {}, {}}
end
local entries, counts = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, unpack(ids)), {}
for i, entry in ipairs(entries) do
  local owner = owners[entry[1]]
  local died = redis.call('HEXISTS', KEYS[2], owner) == 1
  local marked = died and redis.call('HGET', KEYS[3], 'mark:' .. owner)
  counts[2 * i - 1], counts[2 * i] = count_claim(KEYS[3], ARGV[6] .. ':' .. entry[1], died, marked)
end
redis.call('PEXPIRE', KEYS[3], ARGV[5])
return {last, entries, counts}
