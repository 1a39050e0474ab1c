#!lua flags=allow-oom
-- Give up a lease if this process holds it.
--
-- KEYS[1]  the lease
-- ARGV[1]  the token of this process

if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], 0)
end
