-- ARGV: id, owner or empty, kind or empty.
local id = ARGV[5]
local t, S, C = load(id)
if not t and was_evicted(id) then return DAMAGED end
if not t or (ARGV[6] ~= '' and t.s ~= ARGV[6]) or (ARGV[7] ~= '' and t.k ~= ARGV[7]) then return { 'unknown' } end
if standing(t, S, C) == 'r' then return { 'already' } end
revoke(id, t)
log('R', digests(t), { id })
return { 'revoked', record(id, t, S, C) }
