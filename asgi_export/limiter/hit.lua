-- One hit of one key under all rules at once: an exact sliding window, by the server's own clock.
--
-- KEYS[1]  a list of the admitted hits' moments, in microseconds, ascending
-- ARGV     limit and window in microseconds of each rule, in turn
--
-- Returns now, and for each rule: the hits in its window, the microseconds until the oldest of them leaves, and the
-- microseconds until the rule would admit a hit. The hit was admitted where all of those are 0. A refusal writes
-- nothing. Moments are below 2^53, so that Lua's numbers hold them; they go to redis.call as numbers, because `..`
-- and tostring round.
local key = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local count = redis.call('LLEN', key)

local function moment(place)
  return tonumber(redis.call('LINDEX', key, place))
end

if count > 0 then
  now = math.max(now, moment(-1)) -- a clock that was set back stands still until it has caught up
end

local function first_after(edge)
  local low, high = 0, count
  while low < high do
    local middle = math.floor((low + high) / 2)
    if moment(middle) > edge then high = middle else low = middle + 1 end
  end
  return low
end

local reply = {now}
local longest, oldest_live, refused = 0, count, false
for argument = 1, #ARGV, 2 do
  local limit, window = tonumber(ARGV[argument]), tonumber(ARGV[argument + 1])
  local edge = now - window
  local live = first_after(edge)
  local used = count - live
  local wait = 0
  if used >= limit then wait = moment(-limit) - edge end
  refused = refused or wait > 0
  if window > longest then longest, oldest_live = window, live end
  reply[#reply + 1] = used
  reply[#reply + 1] = used > 0 and moment(live) - edge or 0
  reply[#reply + 1] = wait
end

if not refused then
  if oldest_live > 0 then redis.call('LTRIM', key, oldest_live, -1) end
  redis.call('RPUSH', key, now)
  redis.call('PEXPIRE', key, math.ceil(longest / 1000) + 1)
end
return reply
