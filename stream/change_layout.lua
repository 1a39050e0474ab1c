#!lua flags=allow-oom
-- Change the number of shards in use. Shards that were in use before stay known: they may hold entries.
--
-- KEYS[1]  the layout: numbers of shards in use and known, and the time of the last change in ms
-- ARGV[1]  the new number of shards in use
-- ARGV[2]  the least number of known shards
-- Reply    the new layout

--- include clock.lua
local known = tonumber(string.match(redis.call('GET', KEYS[1]) or '', '^%d+ (%d+) ') or '1')
known = math.max(known, tonumber(ARGV[1]), tonumber(ARGV[2]))
local layout = string.format('%d %d %.0f', ARGV[1], known, now_ms())
redis.call('SET', KEYS[1], layout)
return layout
