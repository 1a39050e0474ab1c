#!lua flags=allow-oom
-- Change the number of shards in use, or only make more shards known. Shards that were in use before stay known: they
-- may hold entries.
--
-- KEYS[1]  the layout: numbers of shards in use and known, and the time of the last change in ms
-- ARGV[1]  the new number of shards in use; '' leaves it as it is
-- ARGV[2]  the least number of known shards
-- Reply    the new layout

--- include clock.lua
local used, known = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) (%d+) ')
used = tonumber(ARGV[1]) or tonumber(used or '1')
known = math.max(tonumber(known or '1'), used, tonumber(ARGV[2]))
local layout = string.format('%d %d %.0f', used, known, now_ms())
redis.call('SET', KEYS[1], layout)
return layout
