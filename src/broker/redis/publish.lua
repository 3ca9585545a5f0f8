-- Gives a message its place in the order of its channel, keeps it, and sends it to the servers that listen.
-- Redis runs scripts one after another, so the number, the log and the push agree.
--
-- KEYS  1 meta of the channel   2 its log   3 its moderation (moderate.lua)   4 the message's id, if it has one
-- ARGV  1 channel   2 the envelope without its head and its closing brace   3 an epoch, for the case that a new one is needed
--       4, 5 the highest position the server knows of: epoch ('' for none) and seq
--       6 what part of its length and bytes the log keeps now: 1, or less in a Redis that is nearly full
--       7 '0' if this must not be the first message of a room   8 a digest of 2 with its closing brace
--       9 who speaks, if moderation applies   10 '1' if slow mode does not apply
--       11 fingerprint of the message, if it has an id
-- Returns, as one text, what became of it and where and when: `placed <epoch> <seq> <Unix milliseconds>`;
-- for a known id its position and 'repeated', or 'conflict' if the id belongs to another message; 'overloaded' if it would
-- be the first of a room and must not; 'muted' or 'banned', and at the end until when in Unix milliseconds; 'slow_mode', and
-- at the end the milliseconds to wait.
--
-- What is pushed is the envelope with a checksum at its end (mac), which nobody can make who does not know the secret. It
-- is made of the head and the digest: Redis is slow at digesting, and one for all, so the servers do that.
--
-- Meta has epoch, seq and ts of the last message, and bytes, the size of all messages of the epoch so far. They have
-- meant the same in every version, and so have the entries of the log: versions can share a Redis. Beside a version that
-- gives the log no more than its bare life, a silent log may go a sixteenth early, which readers are told by a `reset`.
--
-- Each call of Redis from here costs about as much as all that Lua does, and numbers that become texts or are read from
-- them are what Lua does most: so the calls are as few as can be, and each text is made once.

local meta = redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'bytes', 'ts', 'mod')
local epoch, top, bytes, last_ts, is_moderated = meta[1], meta[2] or 0, meta[3] or 0, meta[4] or 0, meta[5]
local wound_back = epoch == ARGV[4] and top - ARGV[5] < 0
if ARGV[7] == '0' and (not epoch or top == 0 or top == '0') then return 'overloaded 0 0 0' end

-- In a Redis that is full only a script that has begun to write may write on. So a room makes place for its message first.
local share = tonumber(ARGV[6])
if share < 1 and epoch then
  redis.call('PEXPIRE', KEYS[1], meta_life)
  if redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1] then
    redis.call('XTRIM', KEYS[2], 'MAXLEN', math.floor(max_length * share))
    trim(KEYS[2], tonumber(top), tonumber(bytes), 0, max_bytes * share)
  end
end

if not epoch or wound_back then
  epoch, top, bytes, last_ts = ARGV[3], 0, 0, 0
  redis.call('DEL', KEYS[1], KEYS[2])
  is_moderated = redis.call('EXISTS', KEYS[3]) == 1
  redis.call('HSET', KEYS[1], 'epoch', epoch)
  if is_moderated then redis.call('HSET', KEYS[1], 'mod', 1) end
  redis.call('PEXPIRE', KEYS[1], meta_life)
end

local seq = string.format('%d', top + 1)
local position = epoch .. ' ' .. seq
local id = KEYS[4]
if id and not redis.call('SET', id, position .. ' ' .. ARGV[11], 'NX', 'PX', id_life) then
  local known, fingerprint = string.match(redis.call('GET', id), '^(%S+ %d+) (%S+)$')
  -- A message of an earlier epoch may be in no log any more, so its id says nothing.
  if known and string.sub(known, 1, #epoch) == epoch then
    return (fingerprint == ARGV[11] and 'repeated ' or 'conflict ') .. known .. ' 0'
  end
  redis.call('SET', id, position .. ' ' .. ARGV[11], 'PX', id_life)
end

-- The clock of Redis is one for all servers.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + clock[2] / 1000
if is_moderated and ARGV[9] ~= '' then
  local user = ARGV[9]
  local rules = redis.call('HMGET', KEYS[3], 'b:' .. user, 'm:' .. user, 'slow')
  local refusal
  for i, name in ipairs({ 'banned', 'muted' }) do
    if not refusal and rules[i] and tonumber(rules[i]) > now then refusal = name .. ' 0 0 ' .. rules[i] end
  end
  -- A key that lives for the pause, so that nothing is left of those who have long been silent.
  local pause = KEYS[3] .. ':' .. user
  if not refusal and rules[3] and ARGV[10] ~= '1' and not redis.call('SET', pause, 1, 'NX', 'PX', rules[3]) then
    refusal = 'slow_mode 0 0 ' .. math.max(redis.call('PTTL', pause), 1)
  end
  if refusal then
    if id then redis.call('DEL', id) end
    return refusal
  end
end

local ts = string.format('%d', now)
local head = '{"epoch":"' .. epoch .. '","seq":' .. seq .. ',"ts":' .. ts .. ','
local envelope = head .. ARGV[2] .. '}'
bytes = bytes + #envelope
local size = string.format('%d', bytes)

local added = redis.pcall('XADD', KEYS[2], seq, 'e', envelope, 'b', size)
if type(added) == 'table' then
  -- What is not kept must be taken when it is sent again. Only an error comes as a table.
  if id then redis.call('DEL', id) end
  return added
end
redis.call('HSET', KEYS[1], 'seq', seq, 'ts', ts, 'bytes', size)

-- To have their lives prolonged and the log trimmed is due with the first message of each sixteenth of the log's life,
-- when the log may have grown by a sixteenth of its bytes, and with every 64th message. So keys outlive their last
-- message by the lives they are given here less a sixteenth of the log's.
local period, growth = log_life / 16, max_bytes / 16
if top % 64 == 0 or bytes % growth < #envelope or now - now % period ~= last_ts - last_ts % period then
  redis.call('PEXPIRE', KEYS[1], meta_life)
  redis.call('PEXPIRE', KEYS[2], string.format('%.0f', log_life + period))
  redis.call('XTRIM', KEYS[2], 'MAXLEN', '~', max_length)
  trim(KEYS[2], top + 1, bytes, now, max_bytes)
end

local mac = string.sub(redis.sha1hex(secret .. ARGV[1] .. '\n' .. head .. ARGV[8] .. secret), 1, 16)
redis.call('PUBLISH', ARGV[1], head .. ARGV[2] .. ',"mac":"' .. mac .. '"}')
return 'placed ' .. position .. ' ' .. ts
