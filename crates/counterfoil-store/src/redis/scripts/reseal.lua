-- ARGV: id, digest, key and bytes that were read, key and bytes from now on.
local id = ARGV[5]
local t = load(id)
if not t or t.d ~= ARGV[6] or not t.x or t.x[1] ~= tonumber(ARGV[7]) or t.x[2] ~= ARGV[8] then return 0 end
t.x = { tonumber(ARGV[9]), ARGV[10] }
call('SET', R .. 't:' .. id, cmsgpack.pack(t), 'KEEPTTL')
return 1
