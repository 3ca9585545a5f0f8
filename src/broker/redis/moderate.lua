-- Changes what holds for the speakers of a room.
--
-- KEYS  1 the room's moderation: a hash with m:<user> and b:<user>, until when somebody is muted or banned in Unix
--         milliseconds, and slow, the milliseconds between two messages of one user
--       2 meta of the room, where mod says that there is a moderation
-- ARGV  1 the field   2 its value; empty to remove it   3 most fields
-- Returns 'OK', or 'full'.

-- Looks at all fields, which may be many: only when it must. Forgets those that have ended. Returns the last of the times.
local function last_of_all()
  local clock, last = redis.call('TIME'), 0
  local now, fields = clock[1] * 1000 + clock[2] / 1000, redis.call('HGETALL', KEYS[1])
  for i = 1, #fields, 2 do
    local ends = fields[i] == 'slow' and math.huge or tonumber(fields[i + 1])
    if ends <= now then redis.call('HDEL', KEYS[1], fields[i]) end
    last = math.max(last, ends)
  end
  return last
end

local function live_until(last)
  if last == math.huge then
    redis.call('PERSIST', KEYS[1])
  else
    redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', last))
  end
end

local field, value = ARGV[1], ARGV[2]
if value == '' then
  -- It lives as long as the last of its times, and without an end while the room is slow.
  if redis.call('HDEL', KEYS[1], field) == 1 and field == 'slow' then live_until(last_of_all()) end
else
  if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) and redis.call('HEXISTS', KEYS[1], field) == 0 then
    last_of_all()
    if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) then return 'full' end
  end
  local left = redis.call('PTTL', KEYS[1])
  redis.call('HSET', KEYS[1], field, value)
  if field == 'slow' then
    live_until(math.huge)
  elseif left ~= -1 then
    local clock = redis.call('TIME')
    local now = clock[1] * 1000 + clock[2] / 1000
    live_until(math.max(tonumber(value), left > 0 and now + left or 0))
  end
end
if redis.call('EXISTS', KEYS[2]) == 1 then
  if redis.call('EXISTS', KEYS[1]) == 1 then
    redis.call('HSET', KEYS[2], 'mod', 1)
  else
    redis.call('HDEL', KEYS[2], 'mod')
  end
end
return 'OK'
