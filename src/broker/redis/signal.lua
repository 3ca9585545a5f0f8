-- Sends something that is not kept to the servers that listen, if its speaker may speak in the room.
--
-- KEYS  1 the room's moderation (moderate.lua)
-- ARGV  1 channel   2 the envelope without its head   3 who speaks
-- Returns, as publish.lua does, `sent 0 0 <Unix milliseconds>`, or 'muted' or 'banned' and at the end until when.

local clock = redis.call('TIME')
local now = clock[1] * 1000 + clock[2] / 1000
local rules = redis.call('HMGET', KEYS[1], 'b:' .. ARGV[3], 'm:' .. ARGV[3])
for i, name in ipairs({ 'banned', 'muted' }) do
  if rules[i] and tonumber(rules[i]) > now then return name .. ' 0 0 ' .. rules[i] end
end
local ts = string.format('%d', now)
redis.call('PUBLISH', ARGV[1], '{"ts":' .. ts .. ',' .. ARGV[2])
return 'sent 0 0 ' .. ts
