-- Turns a reply of names and values in turn into a table by name.
local function by_name(reply)
  local values = {}
  for i = 1, #reply, 2 do
    values[reply[i]] = reply[i + 1]
  end
  return values
end
