-- Whether this server takes writes: KEYS[1] is written, and forgotten in a millisecond.
redis.call('SET', KEYS[1], '', 'PX', 1)
return 1
