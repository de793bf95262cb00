return call('HKEYS', R .. 'f')
