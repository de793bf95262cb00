-- ARGV: id, owner, kind, name or empty.
local id = ARGV[5]
local t, S, C = load(id)
if not t or t.s ~= ARGV[6] or t.k ~= ARGV[7] or not is_live(t, S, C) then return false end
t.m = some(ARGV[8])
put(id, t)
return record(id, t, S, C)
