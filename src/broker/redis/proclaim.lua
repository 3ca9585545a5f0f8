-- Changes what holds on all servers, and tells them.
--
-- KEYS  1 what holds: a sorted set, by until when in Unix milliseconds   2 how often it has changed
-- ARGV  1 the channel on which to tell   2 what to tell   3 the least number of changes to count from
--       4, 5 … until when, empty to remove it, and what
-- Returns how often it has changed.

local clock = redis.call('TIME')
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%d', clock[1] * 1000 + clock[2] / 1000))
for i = 4, #ARGV, 2 do
  if ARGV[i] == '' then
    redis.call('ZREM', KEYS[1], ARGV[i + 1])
  else
    redis.call('ZADD', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
local version = math.max(tonumber(redis.call('GET', KEYS[2]) or 0), tonumber(ARGV[3])) + 1
redis.call('SET', KEYS[2], string.format('%d', version))
redis.call('PUBLISH', ARGV[1], ARGV[2])
return version
