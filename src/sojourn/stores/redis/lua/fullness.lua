-- What is worth keeping of a count that had to read a pool whole: see docs/adr/0034 and
-- stores/memory/fullness.py. Of a pool <p>, for a moment:
--   g:<p> hash    f: a pool as it was at an instant, and s: its most silent leases {id, row, ...}, as long as
--                 nothing has ended since; b: how many seats were held under which fence
--   gc:<p> hash   digest of client -> a lease id, where seats are counted by client; fence: up to which
--                 grant it is complete
-- Who ends a lease, doubts a holder or defines the pool takes f away. Servers of before do not; what
-- they end is seen by the sorted sets, and none of their grants by a pool's fence.
local fullness = {}
do -- a script has room for 200 local names at once

local FULL_FOR = 1000 -- ms: how old the evidence of a denial may be
local BOUND_FOR = 60000 -- ms for which a count is relied upon; guards against rows that somebody wrote by hand
local CLIENTS_FOR = 300000 -- ms
local PIECE = 500 -- rows that are written at once

-- Is there no other way than to read such a pool whole?
function fullness.of_interest(p)
  return p.count_by ~= BY_LEASE or #p.reservations > 0 or p.when_full == EVICT_IDLE
end

local function exactly(number) return string.format('%.0f', number) end

local function stamp(p) return redis.sha1hex(p.def) end

-- Return at most how many seats are held, if that is known: every grant since has raised the fence.
function fullness.at_most(p)
  local raw = call('HGET', p.G, 'b')
  if not raw then return nil end
  local at, fence, in_use, defined = unpack(cmsgpack.unpack(raw))
  if at > p.now or p.now - at > BOUND_FOR or fence > p.fence or defined ~= stamp(p) then return nil end
  return in_use + p.fence - fence
end

local function silent_since(row, at) return row.suspect <= at end

-- Count the seats that are suspect, by the leases that may be; nil: read the pool to know, or to take one.
local function suspects(p)
  local seats, found = {}, 0
  for _, row in ipairs(near(p)) do
    if silent_since(row, p.now) then seats[key_of(p, row.user, row.client)] = row end
  end
  for _, row in pairs(seats) do
    if p.count_by == BY_CLIENT then return nil end
    local rows = {row}
    if p.count_by == BY_USER then
      rows = {}
      for _, each in ipairs(rows_of_user(p, row.user)) do
        if live(p, each) then rows[#rows + 1] = each end
      end
    end
    if all_in(rows, function(each) return silent_since(each, p.now) end) then found = found + 1 end
    local reclaimed = p.when_full ~= DENY
    if reclaimed and all_in(rows, function(each) return silent_since(each, p.now - p.linger) end) then
      return nil
    end
  end
  return found
end

-- Bring what is known of a pool in which nothing has ended up to this instant; nil: read it to know.
local function anew(p, k)
  if k.fence ~= p.fence and #p.reservations > 0 then return nil end
  k.suspect = suspects(p)
  if not k.suspect then return nil end
  k.at, k.free_at, k.anew = p.now, soonest_free(p) or p.now, true
  k.silent = first_of(most_silent(p, EVIDENCE_MAX), EVIDENCE_MAX)
  return k
end

-- Return what is known of a pool, or nil.
function fullness.read(p)
  local raw = call('HMGET', p.G, 'f', 's')
  if not (raw[1] and raw[2]) then return nil end
  local k = {}
  k.at, k.since, k.till, k.fence, k.used, k.suspect, k.free_at, k.reserved, k.defined =
    unpack(cmsgpack.unpack(raw[1]))
  if k.at > p.now or p.now >= k.till or p.now - k.since > BOUND_FOR then return nil end
  if k.defined ~= stamp(p) then return nil end -- the pool is another
  -- While it is full, who is granted a seat shares one that was held, or somebody has ended.
  if k.fence ~= p.fence and k.used < p.capacity + p.overdraft then return nil end
  if call('ZCOUNT', p.Y, k.since, '+inf') > 0 then return nil end -- one has ended
  if call('ZCOUNT', p.Z, k.since, p.now) > 0 then return nil end -- or said goodbye
  if p.now - k.at >= FULL_FOR then return anew(p, k) end
  local silent = cmsgpack.unpack(raw[2])
  k.silent = {}
  for i = 1, #silent, 2 do k.silent[#k.silent + 1] = decode(p, silent[i], silent[i + 1]) end
  return k
end

local function latest(rows, of)
  local last = 0
  for _, row in ipairs(rows) do
    local at = of(row)
    if not at then return nil end
    last = math.max(last, at)
  end
  return last
end

-- Say when the first seat is gone, or may be taken, by silence alone.
local function first_free(p)
  local seats, first = p.seats, nil
  if not seats then
    seats = {}
    for i, row in ipairs(all_live(p)) do seats[i] = {row} end
  end
  for _, rows in ipairs(seats) do
    local at = latest(rows, function(row) return free_at(p, row) end)
    if p.when_full == EVICT_IDLE then
      local idle = latest(rows, function(row) return row.idle end)
      if idle then at = math.min(at, idle + p.idle_after) end
    end
    if not first or at < first then first = at end
  end
  return first
end

-- Keep who holds a seat, where the index of holders does not tell.
local function keep_clients(p)
  if p.count_by ~= BY_CLIENT or call('HGET', p.GC, 'fence') == exactly(p.fence) then return end
  call('DEL', p.GC)
  local fields = {'fence', exactly(p.fence)}
  for i, row in ipairs(p.live) do
    fields[#fields + 1], fields[#fields + 2] = digest(row.client), row.id
    if i % PIECE == 0 or i == #p.live then
      call('HSET', p.GC, unpack(fields))
      fields = {}
    end
  end
  call('PEXPIRE', p.GC, CLIENTS_FOR)
end

local function write_known(p, k)
  local packed = {}
  for _, row in ipairs(k.silent) do
    packed[#packed + 1], packed[#packed + 2] = row.id, row.raw
  end
  call('HSET', p.G, 's', cmsgpack.pack(packed), 'f', cmsgpack.pack({k.at, k.since, k.till, k.fence,
    k.used, k.suspect, k.free_at, k.reserved, k.defined}))
end

-- Keep what a count has found, before what it was for is written. D: see seating.lua.
local function keep(D)
  local p = D.p
  call('HSET', p.G, 'b', cmsgpack.pack({p.now, p.fence, D.used, stamp(p)}))
  call('PEXPIRE', p.G, BOUND_FOR)
  local till = first_free(p)
  if p.when_full == EVICT_IDLE then till = math.min(till, p.now + FULL_FOR) end -- a beat may say so of any time
  local at_once = call('ZCOUNT', p.Y, p.now, '+inf') + call('ZCOUNT', p.Z, p.now, p.now)
  if #D.order > 0 or till <= p.now or at_once > 0 then return end -- what ends at this instant is not told apart
  write_known(p, {at = p.now, since = p.now, till = till, fence = p.fence, used = D.used,
    suspect = D.suspect, free_at = p.now + D.next_free_in, reserved = D.room.used, defined = stamp(p),
    silent = first_of(most_silent(p, EVIDENCE_MAX), EVIDENCE_MAX)})
end

-- Keep what was found out of a pool for those who come next, before anything is written.
function fullness.note(D, full_from)
  local p = D.p
  if D.in_doubt or not p.def or not fullness.of_interest(p) or live_count(p) < full_from then return end
  if p.seats then keep_clients(p) end
  if D.counted then keep(D) elseif D.known and D.known.anew then write_known(p, D.known) end
end

-- Does a client hold a seat? nil: read the pool to know.
function fullness.client_held(p, client)
  local found = call('HMGET', p.GC, 'fence', digest(client))
  if found[1] ~= exactly(p.fence) then return nil end
  if not found[2] then return false end
  local row = find(p, found[2])
  if row and row.client == client and live(p, row) then return true end
  return nil
end

-- Take in what was granted, under the fences after `before`.
function fullness.add_clients(p, rows, before, fence)
  if p.count_by ~= BY_CLIENT or call('HGET', p.GC, 'fence') ~= exactly(before) then return end
  local fields = {'fence', exactly(fence)}
  for _, row in ipairs(rows) do
    fields[#fields + 1], fields[#fields + 2] = digest(row.client), row.id
  end
  call('HSET', p.GC, unpack(fields))
end

end
