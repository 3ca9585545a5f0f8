-- Gives a message its place in the order of its channel, keeps it, and sends it to the servers that listen.
-- Redis runs scripts one after another, so the number, the log and the push agree.
--
-- KEYS  1 meta of the channel   2 its log   3 the message's id, if it has one
-- ARGV  1 channel   2 the envelope without its head   3 an epoch, for the case that a new one is needed
--       4, 5 the highest position the server knows of: epoch ('' for none) and seq
--       6, 7, 8 how many entries and bytes the log keeps, and for how long   9 how long meta is kept
--       10 fingerprint of the message   11 how long its id is kept; all times in milliseconds
-- Returns epoch, seq, time (Unix milliseconds), and 'placed'; for a known id its position and 'repeated',
-- or 'conflict' if the id belongs to another message.
--
-- Meta has epoch, seq and ts of the last message, and bytes, the size of all messages of the epoch so far.

local meta = redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'bytes', 'ts')
local epoch, top = meta[1], tonumber(meta[2] or 0)
local bytes, last_ts = tonumber(meta[3] or 0), tonumber(meta[4] or 0)
local wound_back = epoch == ARGV[4] and top < tonumber(ARGV[5])
if not epoch or wound_back then
  epoch, top, bytes, last_ts = ARGV[3], 0, 0, 0
  redis.call('DEL', KEYS[2])
end

-- A message of an earlier epoch may be in no log any more, so its id says nothing.
local id = KEYS[3]
local known = id and redis.call('GET', id)
if known then
  local known_epoch, seq, fingerprint = string.match(known, '^(%S+) (%S+) (%S+)$')
  if known_epoch == epoch then
    return { epoch, seq, '0', fingerprint == ARGV[10] and 'repeated' or 'conflict' }
  end
end

-- The clock of Redis is one for all servers.
local now = redis.call('TIME')
local ts = now[1] .. string.format('%03d', math.floor(now[2] / 1000))
local seq = string.format('%.0f', top + 1)
local envelope = '{"epoch":"' .. epoch .. '","seq":' .. seq .. ',"ts":' .. ts .. ',' .. ARGV[2]
bytes = bytes + #envelope

redis.call('HSET', KEYS[1], 'epoch', epoch, 'seq', seq, 'ts', ts, 'bytes', string.format('%.0f', bytes))
redis.call('PEXPIRE', KEYS[1], ARGV[9])
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[6], seq .. '-0', 'e', envelope, 'b', string.format('%.0f', bytes))
redis.call('PEXPIRE', KEYS[2], ARGV[8])

-- In a busy room it is enough to trim at every eighth message.
local age = tonumber(ARGV[8])
if top % 8 == 0 or tonumber(ts) - last_ts > age / 16 then
  trim(KEYS[2], top + 1, bytes, tonumber(ARGV[7]), tonumber(ts) - age)
end

if id then
  redis.call('SET', id, epoch .. ' ' .. seq .. ' ' .. ARGV[10], 'PX', ARGV[11])
end
redis.call('PUBLISH', ARGV[1], envelope)
return { epoch, seq, ts, 'placed' }
