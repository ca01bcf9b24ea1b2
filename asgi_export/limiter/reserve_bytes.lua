-- Bytes a day of one key: KEYS[1] is a hash of buckets, by the number of the bucket, of bytes reserved in it.
-- ARGV: the limit, how many bytes are wanted, the width of a bucket in microseconds, for how many buckets one counts.
-- Returns how many are granted, in which bucket, and where none are the microseconds until some are free.
-- A refusal writes nothing.
local key = KEYS[1]
local limit, wanted = tonumber(ARGV[1]), tonumber(ARGV[2])
local width, counts = tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local current = math.floor(now / width)

local found, live, dead, used = redis.call('HGETALL', key), {}, {}, 0
local bucket = current
for index = 1, #found, 2 do
  local number, bytes = tonumber(found[index]), tonumber(found[index + 1])
  if number + counts <= current then
    dead[#dead + 1] = found[index]
  else
    live[#live + 1] = {number, bytes}
    used = used + bytes
    bucket = math.max(bucket, number)  -- where the clock has stepped back, the newest bucket is now
  end
end

local granted = math.min(wanted, limit - used)
if granted <= 0 then
  table.sort(live, function(one, other) return one[1] < other[1] end)
  local needed, wait = used - limit + 1, 0
  for _, entry in ipairs(live) do
    needed = needed - entry[2]
    if needed <= 0 then
      wait = (entry[1] + counts) * width - now
      break
    end
  end
  return {0, 0, wait}
end

redis.call('HINCRBY', key, bucket, granted)  -- first: after another write a server that is full would not say so
for _, number in ipairs(dead) do
  redis.call('HDEL', key, number)
end
redis.call('PEXPIRE', key, math.ceil(((bucket + counts) * width - now) / 1000))
return {granted, bucket, 0}
