-- What both scripts begin with: trimming of a log by age and by size. Entries are numbered without holes, so the
-- first one to be kept is found by halving. The entry at `last` is always kept.
--
-- An entry has the envelope (e), and the size of all messages of the epoch up to and with it (b), so the size of the
-- log is a difference.

local function entry_from(log, seq)
  return redis.call('XRANGE', log, string.format('%.0f', seq), '+', 'COUNT', 1)[1]
end

local function trim(log, last, bytes, max_bytes, expired)
  local function is_old(entry)
    local written = string.match(entry[2][2], '^{"epoch":"%x+","seq":%d+,"ts":(%d+)')
    local size = bytes - tonumber(entry[2][4]) + #entry[2][2]
    return tonumber(written) <= expired or size > max_bytes
  end

  local first = entry_from(log, 0)
  if not first or not is_old(first) then return end
  local old, keep = tonumber(string.match(first[1], '^%d+')), last
  while keep - old > 1 do
    local middle = math.floor((old + keep) / 2)
    if is_old(entry_from(log, middle)) then old = middle else keep = middle end
  end
  redis.call('XTRIM', log, 'MINID', string.format('%.0f', keep))
end

