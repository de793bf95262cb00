return call('DEL', R .. 'a:' .. ARGV[5])
