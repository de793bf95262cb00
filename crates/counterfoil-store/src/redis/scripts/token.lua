-- ARGV: id, owner or empty.
local t, S, C = load(ARGV[5])
if not t or (ARGV[6] ~= '' and t.s ~= ARGV[6]) then return false end
return record(ARGV[5], t, S, C)
