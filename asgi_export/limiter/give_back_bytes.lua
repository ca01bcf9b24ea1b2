-- Bytes that were reserved and not sent: KEYS[1] is the hash of the key's buckets. ARGV: the bucket, how many bytes.
-- A bucket that has gone stays so, and none goes below zero. Returns how many were taken out.
local bytes = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or 0)
local unused = math.min(bytes, tonumber(ARGV[2]))
if unused > 0 then
  redis.call('HINCRBY', KEYS[1], ARGV[1], -unused)
end
return unused
