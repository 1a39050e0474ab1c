#!lua flags=allow-oom
-- Remove entries from a stream for good. An entry that a consumer has in flight stays, because its handler may still
-- write it somewhere.
--
-- KEYS[1]  the stream
-- KEYS[2]  the loss account of the live stream; for another stream any key
-- ARGV[1]  '1' to count the entries in the loss account, so that they are not reported as missing
-- ARGV[2]  '1' to remove also entries in flight
-- ARGV     then the ids of the entries
-- Reply    how many were removed; for each consumer that has one in flight: the id, the group and the consumer
--
-- An entry in flight is acked first: a pending id without an entry would hold up the ack floor of its group.

--- include pairs.lua
if redis.call('EXISTS', KEYS[1]) == 0 then
  return {0, {}}
end
local groups, removed, holders = {}, 0, {}
for i, reply in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  groups[i] = by_name(reply).name
end
for i = 3, #ARGV do
  local in_flight = false
  for _, group in ipairs(groups) do
    local pending = redis.call('XPENDING', KEYS[1], group, ARGV[i], ARGV[i], 1)
    if #pending > 0 and ARGV[2] == '1' then
      redis.call('XACK', KEYS[1], group, ARGV[i])
    elseif #pending > 0 then
      in_flight = true
      holders[#holders + 1] = {ARGV[i], group, pending[1][2]}
    end
  end
  if not in_flight then
    removed = removed + redis.call('XDEL', KEYS[1], ARGV[i])
  end
end
if ARGV[1] == '1' and removed > 0 and redis.call('HEXISTS', KEYS[2], 'added') == 1 then
  redis.call('HINCRBY', KEYS[2], 'gone', removed)
  redis.call('HINCRBY', KEYS[2], 'length', -removed)
end
return {removed, holders}
