-- Entry ids. Both numbers have 64 bits, more than a Lua number holds, so they are compared as digits.
local function id_parts(id)
  local ms, seq = string.match(id, '^0*(%d+)%-?0*(%d*)$')
  return ms, seq == '' and '0' or seq
end

local function is_smaller(a, b)
  return #a < #b or (#a == #b and a < b)
end

local function is_before(a, b)
  local a_ms, a_seq = id_parts(a)
  local b_ms, b_seq = id_parts(b)
  if a_ms ~= b_ms then
    return is_smaller(a_ms, b_ms)
  end
  return is_smaller(a_seq, b_seq)
end
