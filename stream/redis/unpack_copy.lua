-- Returns the names and values of a packed copy. A member that Ackstream has not written becomes the payload of a copy
-- without other fields, so that a worker dead-letters it and it stops no script.

local function unpack_copy(packed)
  local is_packed, copy = pcall(cmsgpack.unpack, packed)
  if not is_packed or type(copy) ~= 'table' or #copy == 0 or #copy % 2 == 1 then
    return {'payload', packed}
  end
  for _, part in ipairs(copy) do
    if type(part) ~= 'string' then
      return {'payload', packed}
    end
  end
  return copy
end
