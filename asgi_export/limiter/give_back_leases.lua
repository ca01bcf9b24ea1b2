-- Leases of one key, KEYS[1], that have ended: ARGV. One that is gone already is no failure.
for _, lease in ipairs(ARGV) do
  redis.call('ZREM', KEYS[1], lease)
end
return #ARGV
