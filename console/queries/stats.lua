#!lua flags=no-writes
-- Count the open work of each group on a stream. No command reads more than two entries or a hash of consumers.
--
-- KEYS[1]  the stream
-- KEYS[2]  the names of the registered groups
-- KEYS[3]  the id of the server
-- KEYS[4]  the record of invalid payloads
-- KEYS[5]  the quarantine
-- KEYS     then of each registered group: heartbeats, delayed retries, retry stream, replay stream, dead letters, pause
-- ARGV     the names of the registered groups
-- Reply    server time in ms, length, entries ever added, first and last id or '', id of the server or '', lengths of the
--          record of invalid payloads and of the quarantine, the names of the groups that are registered now; and for each
--          group, also others on the stream: name, last delivered id, lag (-1: not told), pending, entries read (-1: not
--          told), id of the oldest unread or pending entry or ''; if it is registered also the counts of delayed
--          retries, retry stream, replay stream and dead letters, reason and start in ms of its pause or '', and the
--          heartbeats: consumers and counters in turn

--- include clock.lua
--- include pairs.lua
local KINDS = 6
local stream = KEYS[1]
local first_key, existing = {}, {}
local info, groups = {length = 0, ['entries-added'] = 0}, {}
for i, name in ipairs(ARGV) do
  first_key[name] = KINDS * i
end

local function oldest(group)
  if (group.pending or 0) > 0 then
    return redis.call('XPENDING', stream, group.name)[2]
  end
  if group.lag == 0 then
    return ''
  end
  local unread = redis.call('XRANGE', stream, '(' .. group['last-delivered-id'], '+', 'COUNT', 1)[1]
  return unread and unread[1] or ''
end

-- A stream without any entry so far has been read by every group, although the server does not report it.
local function describe(group)
  local delivered, lag = group['last-delivered-id'], group.lag or -1
  local read = info['entries-added'] == 0 and 0 or group['entries-read'] or -1
  local reply = {group.name, delivered, lag, group.pending or 0, read, oldest(group)}
  local at = first_key[group.name]
  if at then
    local pause = redis.call('HMGET', KEYS[at + 5], 'why', 'since')
    reply[7] = redis.call('ZCARD', KEYS[at + 1])
    for i = 2, 4 do
      reply[6 + i] = redis.call('XLEN', KEYS[at + i])
    end
    reply[11], reply[12] = pause[1] or '', pause[2] or ''
    reply[13] = redis.call('HGETALL', KEYS[at])
  end
  return reply
end

if redis.call('EXISTS', stream) == 1 then
  info = by_name(redis.call('XINFO', 'STREAM', stream))
  for _, reply in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local group = by_name(reply)
    existing[group.name] = true
    groups[#groups + 1] = describe(group)
  end
end
for _, name in ipairs(ARGV) do
  if not existing[name] then
    groups[#groups + 1] = describe({name = name, ['last-delivered-id'] = '0-0'})
  end
end
local first, last = info['first-entry'], info['entries-added'] > 0 and info['last-generated-id'] or ''
return {
  now_ms(), info.length, info['entries-added'], first and first[1] or '', last, redis.call('GET', KEYS[3]) or '',
  redis.call('XLEN', KEYS[4]), redis.call('XLEN', KEYS[5]), redis.call('SMEMBERS', KEYS[2]), groups,
}
