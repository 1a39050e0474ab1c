#!lua flags=no-writes
-- Count the work of a group that a worker could do now.
--
-- KEYS[1]  the stream
-- KEYS[2]  the names of the registered groups
-- KEYS[3]  the delayed retries
-- KEYS[4]  the retry stream
-- KEYS[5]  the replay stream
-- ARGV[1]  the group
-- ARGV[2]  the longest delay of a retry, in ms
-- Reply    nil if the group is not registered; else the lag (-1: the server does not report it, -2: the group is missing
--          on the stream), the id that it has read up to, its pending entries, retries that are due, and replayed entries
--
-- A retry that is due later than any delay allows is due now (worker/settle/promote.lua).

--- include clock.lua
--- include pairs.lua
--- include ids.lua
if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 0 then
  return nil
end
local now = now_ms()
local due = redis.call('ZCOUNT', KEYS[3], '-inf', now) + redis.call('ZCOUNT', KEYS[3], '(' .. now + ARGV[2], '+inf')
local retries, replays = due + redis.call('XLEN', KEYS[4]), redis.call('XLEN', KEYS[5])
if redis.call('EXISTS', KEYS[1]) == 0 then
  return {0, '0-0', 0, retries, replays}
end
for _, reply in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = by_name(reply)
  if group.name == ARGV[1] then
    local last = by_name(redis.call('XINFO', 'STREAM', KEYS[1]))['last-generated-id']
    local has_read_all = not is_before(group['last-delivered-id'], last)
    local lag = has_read_all and 0 or group.lag or -1
    return {lag, group['last-delivered-id'], group.pending, retries, replays}
  end
end
return {-2, '0-0', 0, retries, replays}
