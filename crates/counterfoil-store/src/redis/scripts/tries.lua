return call('HMGET', R .. 'a:' .. ARGV[5], 'failed', 'last')
