-- ARGV: id, scheme and digest that were found, the new digest, its scheme.
local id, scheme, was, digest = ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local t = load(id)
if not t or (t.h or '') ~= scheme or t.d ~= was or t.r or is_known(digest) then return 0 end
forget_digest(was, id)
count_scheme(t.h, -1)
t.d, t.h = digest, ARGV[9]
count_scheme(t.h, 1)
put(id, t)
name_digest(digest, id, t)
log('A', { was })
return 1
