-- ARGV: id, version, name, policy, 1 for logins.
local c, name = ARGV[5], ARGV[7]
local known = call('HGET', R .. 'cn', name)
if known and known ~= c and client(known) then return { 'taken' } end
local C = client(c)
if not C or C.ver ~= tonumber(ARGV[6]) then return { 'changed' } end
call('HDEL', R .. 'cn', C.name)
call('HSET', R .. 'cn', name, c)
call('HSET', R .. 'c:' .. c, 'ver', C.ver + 1, 'name', name, 'pol', ARGV[8], 'may', ARGV[9])
log('C', c, C.ep, 0)
clients[c] = nil
return { 'updated', client_record(c, client(c)) }
