-- Changes what holds for the speakers of a room.
--
-- KEYS  1 the room's moderation: a hash with m:<user> and b:<user>, until when somebody is muted or banned in Unix
--         milliseconds, and slow, the milliseconds between two messages of one user
--       2 meta of the room, where mod says that there is a moderation
-- ARGV  1 the field   2 its value; empty to remove it

if ARGV[2] == '' then redis.call('HDEL', KEYS[1], ARGV[1]) else redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
-- It lives as long as the last of its times, and without an end while the room is slow.
local last = 0
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
  last = math.max(last, fields[i] == 'slow' and math.huge or tonumber(fields[i + 1]))
end
if last == math.huge then
  redis.call('PERSIST', KEYS[1])
elseif last > 0 then
  redis.call('PEXPIREAT', KEYS[1], string.format('%d', last))
end
if redis.call('EXISTS', KEYS[2]) == 1 then
  if last > 0 then redis.call('HSET', KEYS[2], 'mod', 1) else redis.call('HDEL', KEYS[2], 'mod') end
end
return 'OK'
