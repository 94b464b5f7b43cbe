-- What is read of a pool's seats as they were before this call: see seating.PoolReader.
local EVIDENCE_MAX = 20

local function first_of(rows, limit)
  local part = {}
  for i = 1, math.min(limit, #rows) do part[i] = rows[i] end
  return part
end

local function key_of(p, user, client)
  if p.count_by == BY_USER then return user end
  if p.count_by == BY_CLIENT then return client end
  return #user .. ':' .. user .. client
end

local function all_live(p)
  if not p.live then p.live = rows_between(p, '(' .. p.now, '+inf') end
  return p.live
end

-- Every live lease that may be suspect lies among the next to expire.
local function near(p)
  if p.live then return p.live end
  if not p.near then p.near = rows_between(p, '(' .. p.now, p.now + gap_of(p)) end
  return p.near
end

local function live_count(p)
  if p.live then return #p.live end
  return call('ZCOUNT', p.Z, '(' .. p.now, '+inf')
end

local function free_at(p, row)
  if p.when_full == DENY then return row.expires end
  return math.min(row.expires, row.suspect + p.linger)
end

local function grouped(p)
  if not p.seats then
    local by_key, seats = {}, {}
    for _, row in ipairs(all_live(p)) do
      local key = key_of(p, row.user, row.client)
      if not by_key[key] then
        by_key[key] = {}
        seats[#seats + 1] = by_key[key]
      end
      table.insert(by_key[key], row)
    end
    p.by_key, p.seats = by_key, seats
  end
  return p.seats
end

local function all_in(rows, test)
  for _, row in ipairs(rows) do
    if not test(row) then return false end
  end
  return true
end

local function next_free(p, rows)
  local least
  for _, row in ipairs(rows) do
    local at = free_at(p, row)
    if not least or at < least then least = at end
  end
  return least
end

-- Say when the first live lease is gone, read from where it must lie: one that expires at e comes free
-- no earlier than e - gap + linger.
local function soonest_free(p)
  if p.live then return next_free(p, p.live) end
  local ahead = p.when_full == DENY and 0 or math.max(0, gap_of(p) - p.linger)
  local least, offset, step = nil, 0, 8
  while true do
    local ids = call('ZRANGEBYSCORE', p.Z, '(' .. p.now, '+inf', 'LIMIT', offset, step)
    local rows = rows_of(p, ids)
    for _, row in ipairs(rows) do
      local at = free_at(p, row)
      if not least or at < least then least = at end
    end
    if #ids < step or rows[#rows].expires - ahead >= least then return least end
    offset, step = offset + #ids, step * 2
  end
end

-- Return seats in use, suspect ones among them, and ms until the first lease is gone.
local function count(p)
  if p.count_by ~= BY_LEASE then
    local suspect = 0
    for _, rows in ipairs(grouped(p)) do
      if all_in(rows, function(row) return row.suspect <= p.now end) then suspect = suspect + 1 end
    end
    return #p.seats, suspect, math.max(0, (next_free(p, all_live(p)) or p.now) - p.now)
  end
  local suspect = 0
  for _, row in ipairs(near(p)) do
    if row.suspect <= p.now then suspect = suspect + 1 end
  end
  local least = soonest_free(p)
  return live_count(p), suspect, math.max(0, (least or p.now) - p.now)
end

local function by_beat(a, b)
  if a.beat ~= b.beat then return a.beat < b.beat end
  return a.id < b.id
end

-- Return at least `limit` of the most silent, and none that is less silent than one left out.
local function most_silent(p, limit)
  if p.live then
    table.sort(p.live, by_beat)
    return p.live
  end
  local found, offset, step = {}, 0, limit + 16
  while true do
    local ids = call('ZRANGEBYSCORE', p.Z, '(' .. p.now, '+inf', 'LIMIT', offset, step)
    for _, row in ipairs(rows_of(p, ids)) do found[#found + 1] = row end
    table.sort(found, by_beat)
    if #ids < step then return found end
    local far = tonumber(call('ZSCORE', p.Z, ids[#ids]))
    if #found >= limit and found[limit].beat < far - span_of(p) then return found end
    offset, step = offset + #ids, step * 2
  end
end

local reclaimable
do -- a script has room for 200 local names at once

local function least_id(rows)
  local least
  for _, row in ipairs(rows) do
    if not least or row.id < least then least = row.id end
  end
  return least
end

local function most(rows, field)
  local found = 0
  for _, row in ipairs(rows) do
    local value = row[field] or 0
    if value > found then found = value end
  end
  return found
end

local function by_id(a, b) return a.id < b.id end

-- Seats that an acquire may take under the policy, in the order of taking.
function reclaimable(p, limit)
  local function past_linger(row) return row.suspect + p.linger <= p.now end
  local function idle(row)
    return p.idle_after and row.idle and row.idle + p.idle_after <= p.now
  end
  local suspects, idlers = {}, {}
  local seats = {}
  if p.count_by ~= BY_LEASE then
    seats = grouped(p)
  else
    for _, row in ipairs(p.when_full == EVICT_IDLE and all_live(p) or near(p)) do
      seats[#seats + 1] = {row}
    end
  end
  for _, rows in ipairs(seats) do
    if all_in(rows, past_linger) then
      table.insert(suspects, {rows = rows, at = most(rows, 'beat'), id = least_id(rows)})
    elseif p.when_full == EVICT_IDLE and all_in(rows, idle) then
      table.insert(idlers, {rows = rows, at = most(rows, 'idle'), id = least_id(rows)})
    end
  end
  local function order(a, b)
    if a.at ~= b.at then return a.at < b.at end
    return a.id < b.id
  end
  table.sort(suspects, order)
  table.sort(idlers, order)
  local found = {}
  for _, list in ipairs({suspects, idlers}) do
    for _, seat in ipairs(list) do
      if #found >= limit then return found end
      table.sort(seat.rows, by_id)
      found[#found + 1] = seat.rows
    end
  end
  return found
end

end
