-- Our outage costs nobody a seat: see Store.pulse.
local function last_pulse()
  return tonumber(call('HGET', SELF, 'pulse') or nil)
end

local function stale(pulse)
  return pulse ~= nil and now - pulse > MAX_PAUSE
end

-- Until when seats may have been given away as they came free: not after the last call that decided any.
local function served_till(pulse)
  return CLOCKED and pulse + MAX_PAUSE or math.min(pulse + MAX_PAUSE, math.max(pulse, seen))
end

local function grace(p, row, lasted)
  if row.graced and row.beat <= row.graced then return false end
  if row.expires <= row.beat then return false end -- it ended by a goodbye of its own
  local given_back = math.min(row.expires + lasted, now + p.lost_after)
  if p.max_lease then given_back = math.min(given_back, row.acquired + p.max_lease) end
  row.expires = math.max(row.expires, given_back)
  row.suspect = row.suspect + lasted
  row.graced, row.raw = now, nil
  return true
end

local function grace_in(p, lasted, served_until)
  local extended = 0
  for _, row in ipairs(rows_between(p, '(' .. served_until, '+inf')) do
    if grace(p, row, lasted) then
      write_row(p, p.L, row)
      call('ZADD', p.Z, row.expires, row.id)
      note_odd(p, row.expires - row.suspect, row.expires - row.beat, row.expires)
      extended = extended + 1
    end
  end
  if extended > 0 then call('HDEL', p.G, 'f') end
  return extended
end

local function give_grace(pulse)
  local lasted, extended = now - pulse, 0
  for _, id in ipairs(all_pools()) do
    local p = pool_of(id)
    if p.def then extended = extended + grace_in(p, lasted, served_till(pulse)) end
  end
  call('HSET', SELF, 'pulse', now)
  tell(now, 'store.returned', nil, nil, nil, nil, nil, {lasted = lasted, extended = extended})
  return lasted, extended
end

local function heal()
  local pulse = last_pulse()
  if not stale(pulse) then return false end
  give_grace(pulse)
  return true
end
