-- Takes something from a purse that all servers share: the generic cell rate algorithm, by the clock of Redis.
--
-- KEYS  1 the purse: when it will be full again, in milliseconds since 1970; not there if it is
-- ARGV  1 how much comes in a second   2 how much it holds   3 how much to take
-- Returns 0, or in how many milliseconds so much will be there; then nothing was taken.

local clock = redis.call('TIME')
local now = clock[1] * 1000 + clock[2] / 1000
local full_at = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now) + ARGV[3] * 1000 / ARGV[1]
local wait = full_at - now - ARGV[2] * 1000 / ARGV[1]
if wait > 0 then return math.ceil(wait) end
redis.call('SET', KEYS[1], string.format('%.3f', full_at), 'PX', math.ceil(full_at - now))
return 0
