-- ARGV, for each: id, when it was seen, address, agent, where the expiry slides to or empty.
for at = 5, #ARGV, 5 do
  local id, seen = ARGV[at], tonumber(ARGV[at + 1])
  local t, S, C = load(id)
  if t then
    if not t.l or t.l <= seen then
      t.l, t.y, t.z = seen, some(ARGV[at + 2]), some(ARGV[at + 3])
      put(id, t)
    end
    local till = number(ARGV[at + 4])
    if till and is_accepted(t, S, C) then renew(id, t, till) end
  end
end
return 1
