#!lua flags=allow-oom
-- Trim a stream up to an entry, but never past the lowest ack floor.
--
-- KEYS[1]  the stream
-- KEYS[2]  the names of the registered groups
-- KEYS[3]  the lease of the trimmer
-- KEYS[4]  the loss account
-- KEYS     then the checkpoint of each registered group
-- ARGV[1]  the token of the lease
-- ARGV[2]  how long the lease lasts, in ms
-- ARGV[3]  the id of the first entry that must stay
-- ARGV[4]  how many entries to remove at most; 0 for all
-- ARGV[5]  the number of entries in a node of the stream
-- ARGV     then the names of the registered groups
-- Reply    how many entries were removed; nil if another process holds the lease, or the registered groups differ
--
-- With a limit, Redis removes whole nodes. Single entries are removed when no whole node can go.

--- include pairs.lua
--- include ids.lua
--- include floors.lua
local stream = KEYS[1]
if redis.call('GET', KEYS[3]) ~= ARGV[1] then
  return false
end
redis.call('PEXPIRE', KEYS[3], ARGV[2])
local names, expected = items_from(ARGV, 6), {}
for _, name in ipairs(names) do
  expected[name] = true
end
local registered = redis.call('SMEMBERS', KEYS[2])
if #registered ~= #names then
  return false
end
for _, name in ipairs(registered) do
  if not expected[name] then
    return false
  end
end
if redis.call('EXISTS', stream) == 0 then
  return 0
end
local last = by_name(redis.call('XINFO', 'STREAM', stream))['last-generated-id']
local _, floor = find_floors(stream, names, items_from(KEYS, 5), last)
local first_kept = is_before(floor, ARGV[3]) and floor or ARGV[3]
local limit, removed = tonumber(ARGV[4]), 0
if limit > 0 then
  removed = redis.call('XTRIM', stream, 'MINID', '~', first_kept, 'LIMIT', limit)
end
if removed == 0 and (limit == 0 or limit >= tonumber(ARGV[5])) then
  removed = redis.call('XTRIM', stream, 'MINID', '=', first_kept)
end
if removed > 0 then
  redis.call('HINCRBY', KEYS[4], 'gone', removed)
  redis.call('HINCRBY', KEYS[4], 'length', -removed)
end
return removed
