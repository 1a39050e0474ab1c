#!lua flags=no-writes
-- Survey a stream: its size, its loss account, and the ack floor of each group.
--
-- KEYS[1]  the stream
-- KEYS[2]  the names of the registered groups
-- KEYS[3]  the loss account
-- KEYS     then the checkpoint of each registered group
-- ARGV[1]  how many nodes of the stream are sampled for its bytes
-- ARGV     then the names of the registered groups
-- Reply    server time in ms, length, entries ever added, the account (length, added, gone), first id or nil, bytes,
--          maxmemory (0: no limit, or not told), the groups of find_floors

--- include clock.lua
--- include pairs.lua
--- include ids.lua
--- include floors.lua
local stream = KEYS[1]
local info, bytes = {length = 0, ['last-generated-id'] = '0-0', ['entries-added'] = 0}, 0
if redis.call('EXISTS', stream) == 1 then
  info = by_name(redis.call('XINFO', 'STREAM', stream))
  bytes = redis.call('MEMORY', 'USAGE', stream, 'SAMPLES', ARGV[1])
end
local memory = redis.pcall('INFO', 'memory')
local maxmemory = type(memory) == 'string' and tonumber(string.match(memory, 'maxmemory:(%d+)')) or 0
local first = info['first-entry']
local groups = find_floors(stream, items_from(ARGV, 2), items_from(KEYS, 4), info['last-generated-id'])
local account = redis.call('HMGET', KEYS[3], 'length', 'added', 'gone')
return {now_ms(), info.length, info['entries-added'], account, first and first[1] or false, bytes, maxmemory, groups}
