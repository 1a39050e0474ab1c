-- Positions of a consumer group on a stream.
local function last_id(stream)
  local info = redis.pcall('XINFO', 'STREAM', stream)
  if not info.err then
    return by_name(info)['last-generated-id']
  end
  if not string.find(info.err, 'no such key') then
    error(info)
  end
end

local function last_delivered(stream, group)
  for _, reply in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local info = by_name(reply)
    if info.name == group then
      return info['last-delivered-id']
    end
  end
end
