call('HSET', R .. 'm', 'ep', EP + 1, 'at', now)
call('ZADD', R .. 'b', now, 'd')
log('E', EP + 1)
return 1
