-- Leases of one key, KEYS[1], that live on. ARGV: how long from now, in microseconds; the leases.
-- Returns for each 1, or 0 when it is gone: one that has ended or was given back is never brought back to life.
local key, life = KEYS[1], tonumber(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
local renewed = {}
for index = 2, #ARGV do
  local held = redis.call('ZSCORE', key, ARGV[index])
  if held then
    redis.call('ZADD', key, 'XX', now + life, ARGV[index])
  end
  renewed[index - 1] = held and 1 or 0
end
redis.call('PEXPIRE', key, math.max(redis.call('PTTL', key), math.ceil(life / 1000)))
return renewed
