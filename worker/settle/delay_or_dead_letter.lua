#!lua flags=allow-oom
-- Ack entries that failed, and keep a copy of each as a delayed retry or a dead letter.
--
-- KEYS[1]  the stream
-- KEYS[2]  the delayed retries, a sorted set by due time
-- KEYS[3]  the dead letters
-- KEYS[4]  the time at which the latest call that succeeded had started
-- ARGV[1]  the group
-- ARGV[2]  '1' if the entries are copies, which are deleted
-- ARGV[3]  the start of this worker's latest call that succeeded, in ms of the server's clock, or ''
-- ARGV[4]  ms from the first failure until an event is given up
-- ARGV     then for each entry: its id; the delay in ms, or '' for a dead letter; attempt and error of the dead letter
--          if this was its last attempt, or ''; the times at which its previous and its first attempt failed, or '';
--          ms since this attempt started; how many fields and values follow; the fields and values of the copy
-- Reply    for each entry 0 (it was settled before), 1 (delayed) or 2 (dead letter)
--
-- ZCARD and XLEN fail before anything is written if a key has another type. A success in the future was recorded before
-- the clock of the server stepped back, and proves nothing.

--- include clock.lua
redis.call('ZCARD', KEYS[2])
redis.call('XLEN', KEYS[3])
local now = now_ms()
local succeeded = tonumber(redis.call('GET', KEYS[4]) or '') or -1
if succeeded > now then
  succeeded = -1
end
local own = tonumber(ARGV[3])
if own and own <= now and own > succeeded then
  succeeded = own
  redis.call('SET', KEYS[4], ARGV[3])
end

local i, outcomes = 5, {}
while i <= #ARGV do
  local id, delay, attempt, error = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local failed, first, since_start, n =
    tonumber(ARGV[i + 4]), tonumber(ARGV[i + 5]), ARGV[i + 6], tonumber(ARGV[i + 7])
  local outcome = 0
  if redis.call('XACK', KEYS[1], ARGV[1], id) == 1 then
    local copy = {unpack(ARGV, i + 8, i + 7 + n)}
    outcome = delay == '' and 2 or 1
    local at_fault = succeeded > (failed or now - since_start) or now - (first or now) >= tonumber(ARGV[4])
    if attempt ~= '' and at_fault then
      outcome = 2
      for k = 1, n, 2 do
        if copy[k] == 'attempt' then copy[k + 1] = attempt end
        if copy[k] == 'error' then copy[k + 1] = error end
      end
    end
    if outcome == 2 then
      redis.call('XADD', KEYS[3], '*', unpack(copy))
    else
      local times = {'failed_ms', string.format('%.0f', now), 'first_failed_ms', string.format('%.0f', first or now)}
      for k = 1, 4 do copy[n + k] = times[k] end
      redis.call('ZADD', KEYS[2], now + tonumber(delay), cmsgpack.pack(copy))
    end
    if ARGV[2] == '1' then
      redis.call('XDEL', KEYS[1], id)
    end
  end
  outcomes[#outcomes + 1] = outcome
  i = i + 8 + n
end
return outcomes
