#!lua flags=allow-oom
-- Remove entries of a stream that are too old, at most about ARGV[2] at a time.
--
-- KEYS[1]  the stream
-- ARGV[1]  the greatest age, in ms
-- ARGV[2]  how many entries to remove at most
-- Reply    how many were removed; 0 when none is too old
--
-- With a limit Redis removes whole nodes. The rest, less than a node, goes when no whole node can go.

--- include clock.lua
local oldest = string.format('%.0f', math.max(now_ms() - ARGV[1], 0))
local removed = redis.call('XTRIM', KEYS[1], 'MINID', '~', oldest, 'LIMIT', ARGV[2])
if removed == 0 then
  removed = redis.call('XTRIM', KEYS[1], 'MINID', '=', oldest)
end
return removed
