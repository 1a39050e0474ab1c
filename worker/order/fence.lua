-- Refuse the script unless the consumer in the last of ARGV owns the shard for its group. Its name changes whenever it
-- drops its entries, so it is the fencing token.
--
-- The last of KEYS  the owner

if redis.call('GET', KEYS[#KEYS]) ~= ARGV[#ARGV] then
  return redis.error_reply('NOTOWNER another worker has taken over the shard')
end
KEYS[#KEYS] = nil
ARGV[#ARGV] = nil
