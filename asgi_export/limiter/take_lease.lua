-- One lease on one key: KEYS[1] is the set of its leases, each with its end in microseconds of this server's clock.
-- ARGV: how many leases the key may have, how long one lives in microseconds, the lease.
-- Returns 1 if it is taken; 0 if the key has them all, and then nothing is written. A lease that the key has already,
-- as its answer was lost, is given again.
local key, lease = KEYS[1], ARGV[3]
local limit, life = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local ends = tonumber(redis.call('ZSCORE', key, lease) or 0)
if ends <= now and redis.call('ZCOUNT', key, now + 1, '+inf') >= limit then
  return 0
end
redis.call('ZADD', key, now + life, lease)  -- first: after another write a server that is full would not say so
redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
redis.call('PEXPIRE', key, math.max(redis.call('PTTL', key), math.ceil(life / 1000)))
return 1
