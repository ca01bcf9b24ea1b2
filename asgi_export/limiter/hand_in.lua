-- Hits that were admitted while the server did not answer join the list of their key.
--
-- KEYS[1]  the list that hit.lua keeps
-- ARGV[1]  how long a hit is remembered, in microseconds; the others are the hits' ages in microseconds
local key = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local longest = tonumber(ARGV[1])
local moments = {}
for _, found in ipairs(redis.call('LRANGE', key, 0, -1)) do moments[#moments + 1] = tonumber(found) end
for place = 2, #ARGV do
  local age = tonumber(ARGV[place])
  if age < longest then moments[#moments + 1] = now - age end
end
if #moments == 0 then return 0 end
table.sort(moments)
redis.call('DEL', key)
for _, found in ipairs(moments) do redis.call('RPUSH', key, found) end
redis.call('PEXPIRE', key, math.ceil(longest / 1000) + 1)
return #moments
