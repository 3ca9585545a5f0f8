-- Reads a page of a log: `seq` and envelope of each entry from the id `from` on, at most `limit` entries and about
-- `bytes` of their bytes, but at least two if there are two, as the one at a reader's position tells nothing new. `top`
-- is the last seq assigned, and `size` the whole log's. Expired entries are left out; `trims` says whether they are
-- removed too.
local function page_of(log, from, top, size, limit, bytes, trims)
  local page, step = {}, 4
  local function next_entries()
    return redis.call('XRANGE', log, from, '+', 'COUNT', step)
  end

  local entries = next_entries()
  -- Publishing trims the log, so the first entry is seldom too old.
  local first = entries[1]
  if first then
    local time, clock = written(first), redis.call('TIME')
    local now = clock[1] * 1000 + clock[2] / 1000
    if not time or time <= now - log_life then
      if trims then
        trim(log, top, size, now, max_bytes)
      else
        from = first_kept(log, top, size, now, max_bytes) or from
      end
      entries = next_entries()
    end
  end

  -- The steps grow, so that many short entries take few calls, and few long ones are not read in vain.
  while true do
    for _, entry in ipairs(entries) do
      local envelope = entry[2][2]
      bytes = bytes - #envelope
      if bytes < 0 and page[3] then return page end
      page[#page + 1] = string.match(entry[1], '^%d+')
      page[#page + 1] = envelope
    end
    if #entries < step or #page >= 2 * limit then return page end
    from = '(' .. entries[#entries][1]
    step = math.min(2 * step, limit - #page / 2)
    entries = next_entries()
  end
end
