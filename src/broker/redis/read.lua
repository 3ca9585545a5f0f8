-- Reads where the top of a channel is, and a page of what its log has from a position on.
--
-- KEYS  1 meta of the channel   2 its log
-- ARGV  1 an epoch, for the case that a new one is needed   2, 3 the position: epoch ('' for none) and seq
--       4 the highest seq of that epoch that is known to have been given out   5 '1' if that epoch is void
--       6 most entries to return   7 about how many bytes of them to return at most
--       8 how long meta is kept of a channel without messages, in milliseconds
--       9 '0' if a channel that has no epoch must get none
-- Returns epoch and seq of the top, and seq and envelope of each entry: those from the position on if it is of this
-- epoch, else from the start of the log; none without a position. At least two, if there are: the one at the position
-- tells nothing new. The epoch is '' if the channel has none and must get none.

local meta = redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'bytes')
local epoch, top = meta[1], meta[2] or '0'
if not epoch and ARGV[9] == '0' then return { '', 0, {} } end
local is_same = epoch == ARGV[2]
if not epoch or (is_same and (ARGV[5] == '1' or tonumber(top) < tonumber(ARGV[4]))) then
  epoch, top, is_same = ARGV[1], '0', false
  redis.call('DEL', KEYS[1], KEYS[2])
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'seq', top)
end
-- Whoever looks up the tops of rooms with members gives them more time, which is not taken away here.
local life = top == '0' and tonumber(ARGV[8]) or meta_life
if redis.call('PTTL', KEYS[1]) < life then redis.call('PEXPIRE', KEYS[1], life) end

local page = {}
if ARGV[2] == '' or top == '0' then return { epoch, top, page } end

local from, step = is_same and ARGV[3] or '-', 4
local function next_entries()
  return redis.call('XRANGE', KEYS[2], from, '+', 'COUNT', step)
end

local entries = next_entries()
-- Publishing trims the log, so the first entry is seldom too old. What is before it is not asked for.
local first = entries[1]
if first then
  local time, clock = written(first), redis.call('TIME')
  local now = clock[1] * 1000 + clock[2] / 1000
  if not time or time <= now - log_life then
    trim(KEYS[2], tonumber(top), tonumber(meta[3] or 0), now, max_bytes)
    entries = next_entries()
  end
end

-- In steps that grow, so that neither many short entries take many calls, nor few long ones are read for nothing.
local limit, left = tonumber(ARGV[6]), tonumber(ARGV[7])
while true do
  for _, entry in ipairs(entries) do
    local envelope = entry[2][2]
    left = left - #envelope
    if left < 0 and page[3] then return { epoch, top, page } end
    page[#page + 1] = string.match(entry[1], '^%d+')
    page[#page + 1] = envelope
  end
  if #entries < step or #page >= 2 * limit then return { epoch, top, page } end
  from = '(' .. entries[#entries][1]
  step = math.min(2 * step, limit - #page / 2)
  entries = next_entries()
end
