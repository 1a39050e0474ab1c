-- Append entries to the stream, all in one call.
--
-- KEYS[1]  the stream
-- ARGV     for each entry the number of its field names and values, then these
-- Reply    how many entries were appended
--
-- Without ARGV nothing is appended: the reply is 0 if an append would be allowed, or the error that it would meet. XADD
-- refuses the id 0-0, but only after it has looked at the rights; XLEN finds a key of another type.

if #ARGV == 0 then
  local refused = redis.pcall('XADD', KEYS[1], '0-0', 'field', 'value')
  if not string.find(refused.err, 'must be greater than 0%-0') then
    return refused
  end
  local length = redis.pcall('XLEN', KEYS[1])
  if type(length) == 'table' and string.find(length.err, 'WRONGTYPE') then
    return length
  end
  return 0
end

local i, added = 1, 0
while i <= #ARGV do
  local n = tonumber(ARGV[i])
  redis.call('XADD', KEYS[1], '*', unpack(ARGV, i + 1, i + n))
  i = i + n + 1
  added = added + 1
end
return added
