-- Keep refused payloads: one copy of each, and no more than a budget may hold. What is kept stays.
--
-- KEYS[1]  the quarantine, a stream
-- KEYS[2]  its index, a hash: fingerprint of a payload -> budget, and "entries of <budget>" -> how many are kept
-- ARGV[1]  how many entries a budget may hold
-- ARGV     then for each payload: its fingerprint, its budget, the number of its field names and values, then these
-- Reply    for each payload: "kept", "repeated" (a copy is there) or "full"

if redis.call('XLEN', KEYS[1]) == 0 then
  redis.call('DEL', KEYS[2])
end

local limit, i, outcomes = tonumber(ARGV[1]), 2, {}
while i <= #ARGV do
  local fingerprint, budget, n = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  local count = 'entries of ' .. budget
  local outcome = 'kept'
  if redis.call('HEXISTS', KEYS[2], fingerprint) == 1 then
    outcome = 'repeated'
  elseif tonumber(redis.call('HGET', KEYS[2], count) or 0) >= limit then
    outcome = 'full'
  else
    redis.call('XADD', KEYS[1], '*', unpack(ARGV, i + 3, i + 2 + n))
    redis.call('HSET', KEYS[2], fingerprint, budget)
    redis.call('HINCRBY', KEYS[2], count, 1)
  end
  outcomes[#outcomes + 1] = outcome
  i = i + 3 + n
end
return outcomes
