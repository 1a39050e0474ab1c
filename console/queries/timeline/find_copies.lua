#!lua flags=allow-oom,no-writes
-- Find copies in a stream whose origin or payload contains one of some texts.
--
-- KEYS[1]  the stream
-- ARGV[1]  the first id to look at
-- ARGV[2]  the last id
-- ARGV[3]  how many to look at
-- ARGV     then the texts
-- Reply    how many were looked at, and the id of the last one; then for each match its id, and its names and values

local entries = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[2], 'COUNT', ARGV[3])
local reply = {#entries, #entries > 0 and entries[#entries][1] or ''}

local function matches(fields)
  for i = 1, #fields, 2 do
    if fields[i] == 'origin' or fields[i] == 'payload' then
      for k = 4, #ARGV do
        if string.find(fields[i + 1], ARGV[k], 1, true) then
          return true
        end
      end
    end
  end
  return false
end

for _, entry in ipairs(entries) do
  if matches(entry[2]) then
    reply[#reply + 1] = entry
  end
end
return reply
