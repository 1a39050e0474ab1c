-- Say which commands this user may run. None of them is run.
--
-- ARGV   for each command the number of its words, then these
-- Reply  for each command 1 or 0

local allowed, i = {}, 1
while i <= #ARGV do
  local n = tonumber(ARGV[i])
  local is_known, may = pcall(redis.acl_check_cmd, unpack(ARGV, i + 1, i + n))
  allowed[#allowed + 1] = (is_known and may) and 1 or 0
  i = i + n + 1
end
return allowed
