-- ARGV: name.
local c = call('HGET', R .. 'cn', ARGV[5])
local C = c and client(c)
return C and client_record(c, C)
