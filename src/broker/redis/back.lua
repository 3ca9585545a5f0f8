-- Reads the part of a channel's log that ends right before a position, or at its end. Changes nothing.
--
-- KEYS  1 meta of the channel   2 its log
-- ARGV  1, 2 the position: epoch ('' for the end) and seq   3 most entries to return   4 about how many bytes of them to
--       return at most
-- Returns epoch and seq of the top, seq and envelope of each entry, the last one first, and 1 if there are earlier ones.
-- The epoch is '' if there is no log.

local meta = redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'bytes')
local epoch, top = meta[1], meta[2] or '0'
if not epoch then return { '', 0, {}, 0 } end
if ARGV[1] ~= '' and ARGV[1] ~= epoch then return { epoch, top, {}, 0 } end

local clock = redis.call('TIME')
local now = clock[1] * 1000 + clock[2] / 1000
local first = first_kept(KEYS[2], tonumber(top), tonumber(meta[3] or 0), now, max_bytes) or '-'
local from = ARGV[1] == '' and '+' or '(' .. ARGV[2] .. '-0'
local limit, bytes, page, step = tonumber(ARGV[3]), tonumber(ARGV[4]), {}, 4
-- The steps grow, so that many short entries take few calls, and few long ones are not read in vain.
while true do
  local entries = redis.call('XREVRANGE', KEYS[2], from, first, 'COUNT', step)
  for _, entry in ipairs(entries) do
    local envelope = entry[2][2]
    bytes = bytes - #envelope
    if #page >= 2 * limit or (bytes < 0 and page[1]) then return { epoch, top, page, 1 } end
    page[#page + 1] = string.match(entry[1], '^%d+')
    page[#page + 1] = envelope
  end
  if #entries < step then return { epoch, top, page, 0 } end
  from = '(' .. entries[#entries][1]
  step = math.min(2 * step, limit - #page / 2 + 1)
end
