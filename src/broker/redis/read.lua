-- Reads where the top of a channel is, and what its log has after a position.
--
-- KEYS  1 meta of the channel   2 its log
-- ARGV  1 an epoch, for the case that a new one is needed   2, 3 the position: epoch ('' for none) and seq
--       4 most entries to return   5 how long meta is kept, in milliseconds
-- Returns epoch, seq of the top, and entries as XRANGE has them: those after the position if it is of this
-- epoch, else from the start of the log; none without a position.

local meta = redis.call('HMGET', KEYS[1], 'epoch', 'seq')
local epoch, top = meta[1], meta[2] or '0'
local wound_back = epoch == ARGV[2] and tonumber(top) < tonumber(ARGV[3])
if not epoch or wound_back then
  epoch, top = ARGV[1], '0'
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'seq', top)
end
redis.call('PEXPIRE', KEYS[1], ARGV[5])

if ARGV[2] == '' then
  return { epoch, top, {} }
end
local from = '-'
if epoch == ARGV[2] then
  from = string.format('%.0f', ARGV[3] + 1)
end
return { epoch, top, redis.call('XRANGE', KEYS[2], from, '+', 'COUNT', ARGV[4]) }
