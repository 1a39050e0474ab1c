#!lua flags=allow-oom
-- Read new entries of streams for a group.
--
-- KEYS     the streams
-- ARGV[1]  the group
-- ARGV[2]  the consumer
-- ARGV     then for each stream how many entries to read at most
-- Reply    for each stream: its new entries; if there are none, also its last id

local replies = {}
for i, stream in ipairs(KEYS) do
  local reply = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', ARGV[2 + i], 'STREAMS', stream, '>')
  if reply then
    replies[i] = {reply[1][2]}
  else
    local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
    replies[i] = {{}, last and last[1] or '0-0'}
  end
end
return replies
