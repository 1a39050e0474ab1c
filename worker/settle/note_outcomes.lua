#!lua
-- Append the outcomes of entries to the history of a group.
--
-- KEYS[1]  the history stream
-- ARGV[1]  the greatest length of the history (approximate)
-- ARGV     then for each outcome: origin, outcome, attempt, error

for i = 2, #ARGV, 4 do
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*',
    'origin', ARGV[i], 'outcome', ARGV[i + 1], 'attempt', ARGV[i + 2], 'error', ARGV[i + 3])
end
