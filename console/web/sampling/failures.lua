#!lua flags=no-writes
-- Read the newest failures of a group, and count its running replays.
--
-- KEYS[1]  the dead letters
-- KEYS[2]  the delayed retries
-- KEYS[3]  the replays
-- ARGV[1]  how many dead letters, and how many retries of each end of the schedule
-- Reply    the number of running replays; and for each failure: its time in ms, the origin, the error, the attempt, and
--          the time in ms at which the next attempt is due, or '' for a dead letter
--
-- The schedule has no order by time of failure. A retry that failed lately is usually at its start (a first attempt) or
-- at its end (the longest delay).

--- include pairs.lua
--- include unpack_copy.lua
local count, failures, running = tonumber(ARGV[1]), {}, 0

local function add(fields, failed_ms, due)
  local copy = by_name(fields)
  local at = failed_ms or copy.failed_ms or ''
  failures[#failures + 1] = {at, copy.origin or '', copy.error or '', copy.attempt or '0', due}
end

for _, letter in ipairs(redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', count)) do
  add(letter[2], string.match(letter[1], '^%d+'), '')
end
local length = redis.call('ZCARD', KEYS[2])
local parts = length > 2 * count and {{0, count - 1}, {-count, -1}} or {{0, -1}}
for _, part in ipairs(parts) do
  local delayed = redis.call('ZRANGE', KEYS[2], part[1], part[2], 'WITHSCORES')
  for i = 1, #delayed, 2 do
    add(unpack_copy(delayed[i]), false, delayed[i + 1])
  end
end
for name, value in pairs(by_name(redis.call('HGETALL', KEYS[3]))) do
  if value == 'running' and string.find(name, ':state$') then
    running = running + 1
  end
end
return {running, failures}
