-- Reads a page of a channel's log. Changes nothing.
--
-- KEYS  1 meta of the channel   2 its log
-- ARGV  1, 2 the position: epoch and seq   3 most entries to return   4 about how many bytes of them to return at most
-- Returns epoch and seq of the top, and a page: from the position on if it is of this epoch, else from the start of the
-- log. The epoch is '' if there is no log.

local meta = redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'bytes')
local epoch, top = meta[1], meta[2] or '0'
if not epoch then return { '', 0, {} } end
local from, size = epoch == ARGV[1] and ARGV[2] or '-', tonumber(meta[3] or 0)
return { epoch, top, page_of(KEYS[2], from, tonumber(top), size, tonumber(ARGV[3]), tonumber(ARGV[4]), false) }
