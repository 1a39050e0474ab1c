#!lua flags=allow-oom
-- Read pending entries again, by their ids. Entries that were deleted in the meantime are acked.
--
-- KEYS[1]  the stream
-- ARGV[1]  the group
-- ARGV     then the ids
-- Reply    the entries

local entries = {}
for i = 2, #ARGV do
  local entry = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
  if entry then
    entries[#entries + 1] = entry
  else
    redis.call('XACK', KEYS[1], ARGV[1], ARGV[i])
  end
end
return entries
