#!lua flags=allow-oom,no-writes
-- Find the marks that are remembered.
--
-- KEYS[1]  the marks, a sorted set by time
-- ARGV[1]  how long a mark is kept, in ms
-- ARGV[2]  the marks to look for, 16 bytes each
-- Reply    the places, from 1, of the marks that are remembered
--
-- A mark of the future was made before the clock of the server stepped back, and counts.

--- include clock.lua
local since = now_ms() - ARGV[1]
local marks = {}
for i = 1, #ARGV[2], 16 do
  marks[#marks + 1] = string.sub(ARGV[2], i, i + 15)
end
local places = {}
for i, at in ipairs(redis.call('ZMSCORE', KEYS[1], unpack(marks))) do
  if at and tonumber(at) > since then
    places[#places + 1] = i
  end
end
return places
