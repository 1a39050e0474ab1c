#!lua flags=allow-oom,no-writes
-- Measure the memory of the entries that failed.
--
-- KEYS     the delayed retries, the retry stream, the dead letters
-- Reply    the bytes of all three, the memory that the server uses, and its maxmemory (0: no limit, or not told)

local bytes = 0
for _, key in ipairs(KEYS) do
  local usage = redis.call('MEMORY', 'USAGE', key, 'SAMPLES', 20)
  if usage then
    bytes = bytes + usage
  end
end
local memory = redis.pcall('INFO', 'memory')
if type(memory) ~= 'string' then
  return {bytes, 0, 0}
end
return {bytes, tonumber(string.match(memory, 'used_memory:(%d+)')), tonumber(string.match(memory, 'maxmemory:(%d+)'))}
