-- A value that is not a number counts as 0: HINCRBY would fail, and with it each later claim.
local function read_count(poison, name)
  return tonumber(redis.call('HGET', poison, name) or '') or 0
end

local function count_one_more(poison, name)
  redis.call('HSET', poison, name, string.format('%.0f', read_count(poison, name) + 1))
end

-- Count the claim of an entry from a consumer that died, and return its claims and its deaths (worker.group.poison).
-- An entry that was not marked while others of the consumer were was not running: it is free of suspicion.
local function count_claim(poison, name, died, marked)
  if died and marked and not string.find(marked, ' ' .. name .. ' ', 1, true) then
    redis.call('HDEL', poison, name, 'deaths:' .. name)
  elseif died then
    count_one_more(poison, name)
    if marked == ' ' .. name .. ' ' then
      count_one_more(poison, 'deaths:' .. name)
    end
  end
  return read_count(poison, name), read_count(poison, 'deaths:' .. name)
end
