#!lua flags=allow-oom
-- Take or extend a lease. A full server refuses SET alone, and needs the trimmer's lease most.
--
-- KEYS[1]  the lease
-- ARGV[1]  the token of this process
-- ARGV[2]  how long the lease lasts, in ms
-- Reply    1 if this process holds the lease, else 0

if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return 1
end
return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) and 1 or 0
