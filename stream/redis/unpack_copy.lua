-- Returns the names and values of a packed copy. A member that Ackstream has not written becomes the payload of a copy
-- without other fields, so that a worker dead-letters it and it stops no script.

local MOST_PARTS = 4000 -- more than a copy has, fewer than Lua can unpack

local function unpack_copy(packed)
  local is_packed, copy = pcall(cmsgpack.unpack, packed)
  if not is_packed or type(copy) ~= 'table' or #copy == 0 or #copy % 2 == 1 or #copy > MOST_PARTS then
    return {'payload', packed}
  end
  for i = 1, #copy do  -- ipairs would stop at a nil
    if type(copy[i]) ~= 'string' then
      return {'payload', packed}
    end
  end
  return copy
end
