-- What all scripts begin with, after the limits of this server: `max_length` and `max_bytes` of the log, how long the
-- log, meta and ids are kept (`log_life`, `meta_life`, `id_life`), all in milliseconds.
--
-- Trims a log by age and to a size. Entries are numbered without holes, so the first one to be kept is found by halving.
-- The entry at `last` is always kept.
--
-- An entry has the envelope (e), and the size of all messages of the epoch up to and with it (b), so the size of the
-- log is a difference.


-- When an entry was written, in Unix milliseconds. An entry of another program has no time and is useless.
local function written(entry)
  return tonumber(string.match(entry[2][2], '^{"epoch":"%x+","seq":%d+,"ts":(%d+)'))
end

-- The number of the first entry to keep; nil if all stay.
local function first_kept(log, last, bytes, now, max)
  local function entry_from(seq)
    return redis.call('XRANGE', log, string.format('%.0f', seq), '+', 'COUNT', 1)[1]
  end
  local function is_old(entry)
    local time = written(entry)
    if not time or not entry[2][4] then return true end
    local size = bytes - tonumber(entry[2][4]) + #entry[2][2]
    return time <= now - log_life or size > max
  end

  local first = entry_from(0)
  if not first or not is_old(first) then return nil end
  local old, keep = tonumber(string.match(first[1], '^%d+')), last
  while keep - old > 1 do
    local middle = math.floor((old + keep) / 2)
    if is_old(entry_from(middle)) then old = middle else keep = middle end
  end
  return string.format('%.0f', keep)
end

local function trim(log, last, bytes, now, max)
  local keep = first_kept(log, last, bytes, now, max)
  if keep then redis.call('XTRIM', log, 'MINID', keep) end
end
