-- The ack floor of each group on a stream, and the lowest of them.
--
-- An entry before the floor of a group is settled for that group. A registered group that is missing on the stream, or
-- beyond the end of the stream, has its floor at its checkpoint. Without a registered group nothing may be trimmed.

local function next_number(digits)
  local head, nines = string.match(digits, '^(.-)(9*)$')
  local zeros = string.rep('0', #nines)
  if head == '' then
    return '1' .. zeros
  end
  return string.sub(head, 1, -2) .. (tonumber(string.sub(head, -1)) + 1) .. zeros
end

local function next_id(id)
  local ms, seq = id_parts(id)
  if seq == '18446744073709551615' then
    return next_number(ms) .. '-0'
  end
  return ms .. '-' .. next_number(seq)
end

local function checkpoint_floor(key, last)
  local checkpoint = redis.call('GET', key)
  if not checkpoint or not id_parts(checkpoint) or is_before(last, checkpoint) then
    return '0-0'
  end
  return next_id(checkpoint)
end

local function group_floor(stream, group, checkpoint_key, last)
  local floor = next_id(group['last-delivered-id'])
  if checkpoint_key and is_before(last, group['last-delivered-id']) then
    floor = checkpoint_floor(checkpoint_key, last)
  end
  local pending = redis.call('XPENDING', stream, group.name)
  if pending[1] > 0 and is_before(pending[2], floor) then
    return pending[2]
  end
  return floor
end

-- Returns for each group: name, 1 if registered, 1 if on the stream, floor, lag (-1: not told), pending; and the lowest
-- floor. `names` are the registered groups, `checkpoints` their keys, `last` is the last id of the stream.
local function find_floors(stream, names, checkpoints, last)
  local checkpoint_key, groups, lowest = {}, {}, nil
  for i, name in ipairs(names) do
    checkpoint_key[name] = checkpoints[i]
  end
  local function add(name, exists, floor, group)
    groups[#groups + 1] = {name, checkpoint_key[name] and 1 or 0, exists, floor, group.lag or -1, group.pending or 0}
    if not lowest or is_before(floor, lowest) then
      lowest = floor
    end
    checkpoint_key[name] = nil
  end
  if redis.call('EXISTS', stream) == 1 then
    for _, reply in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
      local group = by_name(reply)
      if not is_before(group['last-delivered-id'], last) then
        group.lag = 0
      end
      add(group.name, 1, group_floor(stream, group, checkpoint_key[group.name], last), group)
    end
  end
  for i, name in ipairs(names) do
    if checkpoint_key[name] then
      add(name, 0, checkpoint_floor(checkpoints[i], last), {})
    end
  end
  if #names == 0 then
    lowest = '0-0'
  end
  return groups, lowest
end

local function items_from(list, first)
  local items = {}
  for i = first, #list do
    items[#items + 1] = list[i]
  end
  return items
end
