#!lua flags=allow-oom
-- Save the checkpoint of a group: the greatest id up to which it has settled all entries.
--
-- KEYS[1]  the stream
-- KEYS[2]  the checkpoint
-- ARGV[1]  the group
-- Reply    the checkpoint; nil if the group is missing or beyond the end of the stream

--- include pairs.lua
--- include ids.lua
--- include positions.lua

-- A number of 16 digits or more may be beyond the numbers of Lua; 0 is early enough.
local function one_less(number)
  return #number < 16 and string.format('%.0f', tonumber(number) - 1) or '0'
end

local function previous_id(id)
  local ms, seq = id_parts(id)
  if seq ~= '0' then
    return ms .. '-' .. one_less(seq)
  end
  return ms == '0' and '0-0' or one_less(ms) .. '-18446744073709551615'
end

local last = last_id(KEYS[1])
local delivered = last and last_delivered(KEYS[1], ARGV[1])
if not delivered or is_before(last, delivered) then
  return false
end
local pending = redis.call('XPENDING', KEYS[1], ARGV[1])
local checkpoint = pending[1] > 0 and previous_id(pending[2]) or delivered
if redis.call('GET', KEYS[2]) ~= checkpoint then
  redis.call('SET', KEYS[2], checkpoint)
end
return checkpoint
