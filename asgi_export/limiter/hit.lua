-- One hit on one key: KEYS[1] is the list of the stamps of its admitted hits, in microseconds of this server's clock.
-- ARGV: limit and window in microseconds, for one rule after the other.
-- Returns now, then for each rule the live hits, the time until the oldest of them leaves, the time until the rule
-- admits a hit (0: now). A hit that one rule refuses writes nothing.
local key = KEYS[1]
local time = redis.call('TIME')
local clock = time[1] * 1000000 + time[2]
local length = redis.call('LLEN', key)

local function stamp(index)
  return tonumber(redis.call('LINDEX', key, index))
end

-- Where the clock has stepped back, the newest stamp is now.
local now = clock
if length > 0 then
  now = math.max(clock, stamp(-1))
end

-- The index of the first stamp after the edge, and that stamp; looks near the front first, where it mostly is.
local function first_after(edge)
  local low, high, found = 0, length, nil
  while low < high do
    local probe = math.min(math.max(2 * low - 1, 0), math.floor((low + high) / 2))
    local there = stamp(probe)
    if there > edge then
      high, found = probe, there
    else
      low = probe + 1
    end
  end
  return high, found
end

local reply, longest, dead, refused = {now}, 0, length, false
for index = 1, #ARGV, 2 do
  local limit, window = tonumber(ARGV[index]), tonumber(ARGV[index + 1])
  local edge = now - window
  local first, oldest = first_after(edge)
  local used, reset, wait = length - first, 0, 0
  if used > 0 then
    reset = oldest - edge
  end
  if used >= limit then
    wait = stamp(-limit) - edge
    refused = true
  end
  longest, dead = math.max(longest, window), math.min(dead, first)
  reply[#reply + 1], reply[#reply + 2], reply[#reply + 3] = used, reset, wait
end

if not refused then
  if dead > 0 then
    redis.call('LTRIM', key, dead, -1)
  end
  redis.call('RPUSH', key, now)
  redis.call('PEXPIRE', key, math.ceil((longest + now - clock) / 1000))
end
return reply
