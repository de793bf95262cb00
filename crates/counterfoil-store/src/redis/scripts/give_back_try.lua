local key = R .. 'a:' .. ARGV[5]
local failed = tonumber(call('HGET', key, 'failed') or '0')
if ARGV[5] == '' then failed = 1 end
if failed > 0 then call('HSET', key, 'failed', failed - 1) end
return 1
