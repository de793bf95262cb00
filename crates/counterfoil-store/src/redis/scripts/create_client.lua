-- ARGV: id, name, policy, 1 for logins, metadata, when it was made.
local c, name = ARGV[5], ARGV[6]
local known = call('HGET', R .. 'cn', name)
if known and client(known) or client(c) then return false end
call('HSET', R .. 'cn', name, c)
call('HSET', R .. 'c:' .. c, 'ver', 1, 'ep', 0, 'at', 0, 'name', name, 'pol', ARGV[7], 'may', ARGV[8], 'md', ARGV[9],
  'ca', ARGV[10])
clients[c] = nil
return client_record(c, client(c))
