-- ARGV: id, until or empty.
local id = ARGV[5]
local t, S, C = load(id)
if not t or not is_accepted(t, S, C) then return false end
renew(id, t, number(ARGV[6]))
return { t.e or false }
