-- Count the claim of an entry from a consumer that died, and return its claims and its deaths (worker.group.poison).
-- An entry that was not marked while others of the consumer were was not running: it is free of suspicion.
local function count_claim(poison, name, died, marked)
  if died and marked and not string.find(marked, ' ' .. name .. ' ', 1, true) then
    redis.call('HDEL', poison, name, 'deaths:' .. name)
  elseif died then
    redis.call('HINCRBY', poison, name, 1)
    if marked == ' ' .. name .. ' ' then
      redis.call('HINCRBY', poison, 'deaths:' .. name, 1)
    end
  end
  local counts = redis.call('HMGET', poison, name, 'deaths:' .. name)
  return tonumber(counts[1] or '0'), tonumber(counts[2] or '0')
end
