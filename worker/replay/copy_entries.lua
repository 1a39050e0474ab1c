#!lua
-- Copy entries to the replay stream of a group and move the cursor of the replay, in one step.
--
-- KEYS[1]  the replays of the group
-- KEYS[2]  the lease of the replay
-- KEYS[3]  the replay stream
-- KEYS[4]  the stream
-- KEYS[5]  the dead letters
-- ARGV[1]  the token of the lease
-- ARGV[2]  how long the lease lasts, in ms
-- ARGV[3]  the id of the replay
-- ARGV[4]  its cursor as this process knows it
-- ARGV[5]  its new cursor
-- ARGV[6]  the name of the consumer group that holds the stream, or ''
-- ARGV[7]  '1' if the replay ends with this step
-- ARGV[8]  '1' if the entries are dead letters, which are deleted
-- ARGV[9]  the greatest length of the replay stream
-- ARGV[10] how many copies follow
-- ARGV     then for each copy: the id of the entry; how many fields and values follow; the fields and values
-- Reply    how many copies were made; -1 if lease, state or cursor have changed; -2 if the replay stream is full
--
-- XLEN of the dead letters fails before anything is written if the key has another type.

--- include clock.lua
local id = ARGV[3]
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return -1 end
if redis.call('HGET', KEYS[1], id .. ':state') ~= 'running' then return -1 end
if redis.call('HGET', KEYS[1], id .. ':cursor') ~= ARGV[4] then return -1 end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
local number = tonumber(ARGV[10])
if number > 0 and redis.call('XLEN', KEYS[3]) + number > tonumber(ARGV[9]) then
  return -2
end
redis.call('XLEN', KEYS[5])

local i, copied = 11, 0
while i <= #ARGV do
  local n = tonumber(ARGV[i + 1])
  if ARGV[8] ~= '1' or redis.call('XDEL', KEYS[5], ARGV[i]) == 1 then
    redis.call('XADD', KEYS[3], '*', unpack(ARGV, i + 2, i + 1 + n))
    copied = copied + 1
  end
  i = i + 2 + n
end
redis.call('HSET', KEYS[1], id .. ':cursor', ARGV[5])
if copied > 0 then
  redis.call('HINCRBY', KEYS[1], id .. ':done', copied)
end
if ARGV[7] == '1' then
  redis.call('HSET', KEYS[1], id .. ':state', 'done', id .. ':moved', now_ms(), id .. ':moved_by', '',
    id .. ':moved_why', '')
end
if ARGV[6] ~= '' then
  local act = ARGV[7] == '1' and {'DESTROY', KEYS[4], ARGV[6]} or {'SETID', KEYS[4], ARGV[6], ARGV[5]}
  redis.pcall('XGROUP', unpack(act))
end
return copied
