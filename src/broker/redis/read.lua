-- Reads where the top of a channel is, and what its log has from a position on.
--
-- KEYS  1 meta of the channel   2 its log
-- ARGV  1 an epoch, for the case that a new one is needed   2, 3 the position: epoch ('' for none) and seq
--       4 the highest seq of that epoch that is known to have been given out   5 '1' if that epoch is void
--       6 most entries to return   7 how long meta is kept of a channel without messages, in milliseconds
-- Returns epoch and seq of the top, and pairs of seq and envelope: those from the position on if it is of this
-- epoch, else from the start of the log; none without a position.

local meta = redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'bytes')
local epoch, top = meta[1], meta[2] or '0'
local is_same = epoch == ARGV[2]
if not epoch or (is_same and (ARGV[5] == '1' or tonumber(top) < tonumber(ARGV[4]))) then
  epoch, top, is_same = ARGV[1], '0', false
  redis.call('DEL', KEYS[1], KEYS[2])
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'seq', top)
end
redis.call('PEXPIRE', KEYS[1], top == '0' and ARGV[7] or meta_life)

local entries = {}
if ARGV[2] ~= '' and top ~= '0' then
  local clock = redis.call('TIME')
  trim(KEYS[2], tonumber(top), tonumber(meta[3] or 0), clock[1] * 1000 + clock[2] / 1000)
  for i, entry in ipairs(redis.call('XRANGE', KEYS[2], is_same and ARGV[3] or '-', '+', 'COUNT', ARGV[6])) do
    entries[i] = { string.match(entry[1], '^%d+'), entry[2][2] }
  end
end
return { epoch, top, entries }
