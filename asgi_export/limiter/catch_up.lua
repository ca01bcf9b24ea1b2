-- Hits that an instance admitted while this server did not answer, added to the list of the key, KEYS[1].
-- ARGV: how long a hit is remembered, in microseconds; how many stamps the list may hold; how many of the ages that
-- follow are of such hits; their ages in microseconds; then the ages of all other hits that the instance remembers,
-- which count where the list is gone: then this server has lost its data. Returns how many were added.
local key = KEYS[1]
local longest, most, own = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local clock = time[1] * 1000000 + time[2]

local stamps = {}
for index, text in ipairs(redis.call('LRANGE', key, 0, -1)) do
  stamps[index] = tonumber(text)
end
local held = #stamps
local last = held > 0 and 3 + own or #ARGV
for index = 4, last do
  local age = tonumber(ARGV[index])
  if age < longest then
    stamps[#stamps + 1] = clock - age
  end
end
local added = #stamps - held
if added == 0 then
  return 0
end

-- Stamps older than the newest `most` never decide on a hit. `unpack` takes no more than some thousands.
table.sort(stamps)
local remaining = redis.call('PTTL', key)
redis.call('DEL', key)
for first = math.max(1, #stamps - math.max(most, held) + 1), #stamps, 1000 do
  redis.call('RPUSH', key, unpack(stamps, first, math.min(first + 999, #stamps)))
end
local newest = stamps[#stamps]
redis.call('PEXPIRE', key, math.max(remaining, math.ceil((longest + newest - clock) / 1000)))
return added
