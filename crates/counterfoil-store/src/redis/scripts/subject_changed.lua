log('s', ARGV[5])
return 1
