-- Brings a server up to date with a channel: where its top is, and a page of what its log has from a position on. Begins
-- an epoch where there is none, or where the one there is can no longer hold.
--
-- KEYS  1 meta of the channel   2 its log   3 its moderation
-- ARGV  1 an epoch, for the case that a new one is needed   2, 3 the position: epoch ('' for none) and seq
--       4 the highest seq of that epoch that is known to have been given out   5 '1' if that epoch is void
--       6 most entries to return   7 about how many bytes of them to return at most
--       8 how long meta is kept of a channel without messages, in milliseconds
--       9 '0' if a channel that has no epoch must get none
-- Returns epoch and seq of the top, and a page: from the position on if it is of this epoch, else from the start of the
-- log; empty without a position. The epoch is '' if the channel has none and must get none.

local meta = redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'bytes')
local epoch, top = meta[1], meta[2] or '0'
if not epoch and ARGV[9] == '0' then return { '', 0, {} } end
local is_same = epoch == ARGV[2]
if not epoch or (is_same and (ARGV[5] == '1' or tonumber(top) < tonumber(ARGV[4]))) then
  epoch, top, is_same = ARGV[1], '0', false
  redis.call('DEL', KEYS[1], KEYS[2])
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'seq', top)
  if redis.call('EXISTS', KEYS[3]) == 1 then redis.call('HSET', KEYS[1], 'mod', 1) end
end
-- Whoever looks up the tops of rooms with members gives them more time, which is not taken away here.
local life = top == '0' and tonumber(ARGV[8]) or meta_life
if redis.call('PTTL', KEYS[1]) < life then redis.call('PEXPIRE', KEYS[1], life) end

if ARGV[2] == '' or top == '0' then return { epoch, top, {} } end
local from, size = is_same and ARGV[3] or '-', tonumber(meta[3] or 0)
return { epoch, top, page_of(KEYS[2], from, tonumber(top), size, tonumber(ARGV[6]), tonumber(ARGV[7]), true) }
