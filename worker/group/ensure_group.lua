#!lua flags=allow-oom
-- Register a group, and create it or set it to its checkpoint if it is missing or beyond the end of the stream.
--
-- KEYS[1]  the stream
-- KEYS[2]  the names of the registered groups
-- KEYS[3]  the checkpoint; missing for a stream of copies, which starts at its first entry
-- ARGV[1]  the group
-- Reply    the id after which the group reads; nil if nothing had to be done

--- include pairs.lua
--- include ids.lua
--- include positions.lua
if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 0 then
  redis.call('SADD', KEYS[2], ARGV[1])
end
local last = last_id(KEYS[1])
local delivered = last and last_delivered(KEYS[1], ARGV[1])
if delivered and not is_before(last, delivered) then
  return false
end
local start = KEYS[3] and redis.call('GET', KEYS[3])
if not (start and last and id_parts(start)) or is_before(last, start) then
  start = '0'
end
if delivered then
  redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], start)
else
  redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], start, 'MKSTREAM')
end
return start
