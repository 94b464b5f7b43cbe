-- The decision of an acquire: an exact translation of sojourn/seating.py, name by name. What it has
-- beyond that concerns the time after a server was replaced (`in_doubt`): whoever brings the token of a
-- lease that we may have forgotten is let in, over the capacity if need be; others are not (`strict`), or
-- get the seat that is kept for them, or what is left beside those kept for whom the ledger knows: kept.lua.
local GRANTED, RESUMED, TAKEN_OVER = 0, 1, 2
local ORIGIN_EVENTS = {[0] = 'lease.acquired', 'lease.resumed', 'lease.taken_over'}

local decide, answer, copy
do -- a script has room for 200 local names at once

local function holder(user, client) return #user .. ':' .. user .. client end

function copy(row)
  local other = {}
  for k, v in pairs(row) do other[k] = v end
  return other
end

local function resumable(p, row)
  if live(p, row) then return false end
  if row.ended and row.reason ~= EXPIRED and row.reason ~= EVICTED then return false end
  if p.max_lease and row.acquired + p.max_lease <= p.now then return false end
  return p.now - (row.ended or row.expires) <= p.resume_window
end

-- One batch of one pool. `log` collects events; nothing is written before `decide` returns.
function decide(p, requests)
  fences.read(p)
  local D = {
    p = p, now = p.now, fence = p.fence, rows = {}, olds = {}, written = {}, order = {}, log = {},
    restored = 0, taken = {}, emptied = {}, silent_limit = 0, count = #requests, kept = 0,
    requests = requests,
    changed = 0, -- seats that this batch has taken, less those that it has freed
    came = {}, keeps = {}, unkept = {}, refused = refusal(p),
  }
  for _, r in ipairs(requests) do
    local h = holder(r.user, r.client)
    if D.rows[h] == nil then
      local row = p.def and find_holder(p, r.user, r.client) or false
      D.rows[h], D.olds[h] = row, row
    end
  end
  return D
end

local function event(D, ...) D.log[#D.log + 1] = {...} end

local function write(D, row)
  local h = holder(row.user, row.client)
  if D.known then -- what is known of the pool says nothing of whom it could be written over
    D.known, D.room, D.victims, D.silent_limit, D.at = false, nil, nil, 0, nil
  end
  if not D.written[h] then D.order[#D.order + 1] = h end
  D.written[h], D.rows[h] = row, row
  if D.room then
    local enter = live(D.p, row) and room.enter or room.leave
    enter(D.room, row)
  end
end

local own

-- May somebody end a lease of their own for another? Then it must be known what that counts into.
local function moving(D)
  for _, r in ipairs(D.p.count_by == BY_LEASE and D.requests or {}) do
    if r.takeover and #own(D, r) > 0 then return true end
  end
  return false
end

local function known_of(D)
  if D.known == nil then
    D.known = not D.in_doubt and not D.p.live and #D.order == 0 and fullness.of_interest(D.p)
      and not moving(D) and fullness.read(D.p) or false
  end
  return D.known
end

-- Count the pool, once, and follow what this batch has changed. Seats kept for whom we have forgotten are
-- in use, each in its reservation, as far as that goes by its user.
local function room_of(D)
  if D.room then return D.room end
  local known = known_of(D)
  if known then
    D.used, D.suspect, D.at = known.used, known.suspect, known.at
    D.next_free_in = math.max(0, known.free_at - D.now)
    D.room = room.known(D.p, known.used, known.reserved)
    D.victims, D.silent, D.silent_limit = {}, known.silent, EVIDENCE_MAX
    return D.room
  end
  D.used, D.suspect, D.next_free_in = count(D.p)
  local members = #D.p.reservations > 0 and room.members(D.p, all_live(D.p)) or {}
  D.room = room.of(D.p, D.used + D.kept + D.changed, members)
  for _, row in ipairs(D.in_doubt and D.keeps.rows or {}) do room.enter(D.room, row) end
  for _, row in pairs(D.written) do room.enter(D.room, row) end
  D.counted = true
  return D.room
end

local function at_most(D)
  local leases = live_count(D.p)
  if D.p.count_by == BY_LEASE or D.in_doubt then return leases end
  return math.min(leases, fullness.at_most(D.p) or leases)
end

-- Read the line, once it is known how many seats are kept.
function line.begin(D)
  D.line = line.open(D.p)
  if D.line.size > 0 and not D.refused then
    D.surely_room = false
    room_of(D) -- as it is before this batch changes anything
  end
end

local function current(D, rows)
  local by_holder, found = {}, {}
  for _, row in ipairs(rows) do by_holder[holder(row.user, row.client)] = row end
  for h, row in pairs(D.written) do by_holder[h] = row end
  for _, row in pairs(by_holder) do
    if live(D.p, row) then found[#found + 1] = row end
  end
  table.sort(found, by_beat)
  return found
end

function own(D, r)
  D.own = D.own or {}
  if not D.own[r.user] then
    local alive = {}
    for _, row in ipairs(rows_of_user(D.p, r.user)) do
      if live(D.p, row) then alive[#alive + 1] = row end
    end
    D.own[r.user] = alive
  end
  local mine = {}
  for _, row in ipairs(current(D, D.own[r.user])) do
    if row.user == r.user then mine[#mine + 1] = row end
  end
  return mine
end

local function victims(D)
  if not D.victims then
    local over = math.max(0, room_of(D).in_use + D.p.allotted - D.p.capacity)
    local awaited = D.in_doubt and D.keeps.shared or 0
    D.victims = reclaimable(D.p, D.count + D.line.size + over + room.reserved(D.p) + awaited)
  end
  local left = {}
  for _, rows in ipairs(D.victims) do
    local key = key_of(D.p, rows[1].user, rows[1].client)
    local shared = D.in_doubt and D.keeps.keys[key] ~= nil -- with one who may be alive
    if not D.taken[key] and not shared and all_in(rows, function(row)
      return not D.written[holder(row.user, row.client)]
    end) then
      left[#left + 1] = rows
    end
  end
  D.victims = left
  return left
end

local function end_seat(D, rows, reason)
  local suspect = true
  for _, row in ipairs(rows) do
    local ended = copy(row)
    ended.ended, ended.reason = D.now, reason
    local h = holder(row.user, row.client)
    if D.olds[h] == nil then D.olds[h] = row end
    write(D, ended)
    event(D, 'end', row, reason, 'system:acquire')
    suspect = suspect and row.suspect <= D.now
  end
  if suspect then D.restored = D.restored + 1 end
  local key = key_of(D.p, rows[1].user, rows[1].client)
  D.emptied[key], D.taken[key] = true, nil
  D.changed = D.changed - 1
  if D.room then D.room.in_use = D.room.in_use - 1 end
end

local function victim(D, rows)
  local p = D.p
  return {
    reservation = room.of_seat(room_of(D), key_of(p, rows[1].user, rows[1].client)),
    suspect = all_in(rows, function(row) return row.suspect + p.linger <= D.now end),
  }
end

local function end_some(D, found, place, R)
  local seats = {}
  for i, rows in ipairs(found) do seats[i] = victim(D, rows) end
  if #seats == 0 then return end
  for _, i in ipairs(room.to_end(R, place, seats)) do
    end_seat(D, found[i], EVICTED)
    if R ~= D.room then room.give_up(R, seats[i].reservation) end
  end
end

local function suspects(D, found)
  local left = {}
  for _, rows in ipairs(found) do
    if victim(D, rows).suspect then left[#left + 1] = rows end
  end
  return left
end

local function reclaim(D, place, R)
  if D.p.when_full ~= DENY then end_some(D, suspects(D, victims(D)), place, R) end
  return room.free(R, place, true) > 0
end

local function displace(D, r, place, R, short)
  local p = D.p
  if p.when_full ~= DENY then
    local found = victims(D)
    end_some(D, short and suspects(D, found) or found, place, R)
  end
  if r.takeover and p.count_by == BY_LEASE and room.free(R, place, true) <= 0 then
    for _, row in ipairs(own(D, r)) do
      if room.moves(R, place, victim(D, {row}).reservation) then
        end_seat(D, {row}, MOVED)
        return true
      end
    end
  end
  return room.free(R, place, true) > 0
end

local function held(D, key)
  local p = D.p
  if not p.live and not D.in_doubt then
    if p.count_by == BY_USER then
      D.holding = D.holding or {}
      if D.holding[key] == nil then
        D.holding[key] = not all_in(rows_of_user(p, key), function(row) return not live(p, row) end)
      end
      return D.holding[key]
    end
    local found = fullness.client_held(p, key)
    if found ~= nil then return found end
  end
  grouped(p)
  return p.by_key[key] ~= nil
end

local function shares(D, key)
  if D.p.count_by == BY_LEASE then return false end
  if D.taken[key] then return true end
  return held(D, key) and not D.emptied[key]
end

-- Is a seat kept that is theirs, too, who ask? In strict mode only a token tells.
local function kept_for(D, key)
  if not D.in_doubt or D.unkept[key] then return false end
  if D.p.count_by == BY_LEASE then return kept.of_holder(D.p, key) ~= nil end
  return D.keeps.keys[key] or false
end

local function take_kept(D, key)
  D.unkept[key] = true
  D.kept, D.changed = D.kept - 1, D.changed + 1
end

local function place_named(p, name)
  for place, each in ipairs(p.reservations) do
    if each[1] == name then return place end
  end
  return nil
end

-- Return the room that these entries of the line leave, the holders of those for whom there is a seat, and
-- whether there is none for one.
local function claims_of(D, entries, but)
  local R, keys, claims, any, short = room_of(D), {}, {}, false, false
  local failed, places = {}, 0 -- for these there is no seat, until somebody is ended; 0: for no reservation
  if but then keys[but] = true end
  for _, entry in ipairs(entries) do
    local place = entry.reservation and place_named(D.p, entry.reservation) or nil
    local key = key_of(D.p, entry.user, entry.client)
    local has = keys[key] or shares(D, key) or kept_for(D, key)
    if not failed[place or 0] and not has then
      if not any and not short then R = room.copy(R) end
      local held = R.in_use
      local found = room.free(R, place, true) > 0 or reclaim(D, place, R)
      if R.in_use < held then failed, places = {}, 0 end
      if found then
        keys[key], any = true, true
        claims[holder(entry.user, entry.client)] = true
        room.take(R, place)
      else
        short, failed[place or 0], places = true, true, places + 1
        if places > #D.p.reservations then break end -- nor is there any for those behind
      end
    end
  end
  return R, claims, short
end

-- Hold what is free for the first who wait.
function line.offer_seats(D)
  if D.line.size == 0 or D.refused then return end
  local claims = {}
  if not D.strict and not D.doubtful then
    local _
    _, claims = claims_of(D, line.claiming(D.line))
  end
  for _, entry in ipairs(line.offer(D.line, claims)) do event(D, 'offered', entry) end
end

-- Does the token speak of a lease that we may have forgotten? Not of one that is here, or whose fence we
-- or the ledger know: it was ended, and its seat is free or somebody's.
local function forgotten(D, r, row)
  if not D.in_doubt or not r.resume_id or (row and row.fence >= r.resume_fence) then return false end
  return kept.fence(D.p, r.resume_id) ~= nil or fences.lost(D.p, r.resume_fence)
end

-- Let in whom we may have forgotten: the seat was granted within the capacity.
local function come_back(D, r, key)
  local R, known = room_of(D), kept_for(D, key)
  if not known and r.resume_id and kept.fence(D.p, r.resume_id) then -- a server of before said not for whom
    key, known = '\0' .. r.resume_id, true
  end
  local above = R.in_use + (known and 0 or 1) + D.p.allotted - D.p.capacity
  D.over = above > D.p.overdraft and not known
  D.overdrawn = above > 0 and above <= D.p.overdraft or nil
  if known then
    take_kept(D, key)
  else
    R.in_use, D.changed = R.in_use + 1, D.changed + 1
  end
  D.surely_room = false
  D.taken[key], D.emptied[key] = true, nil
  return true
end

-- In strict doubt, is a seat one that its holders have surely not given back? They have shown life since, or
-- have the token: of others the release may be lost, and the seat somebody else's whom we have forgotten.
local function surely_held(D, r, row, key)
  if not D.strict or r.resume_id or (row and live(D.p, row) and row.beat >= D.noticed) then return true end
  if D.p.count_by == BY_LEASE then return false end
  grouped(D.p)
  return not all_in(D.p.by_key[key] or {}, function(each) return each.beat < D.noticed end)
end

local function find_seat(D, r, row, lost)
  local key = key_of(D.p, r.user, r.client)
  D.overdrawn = nil
  if shares(D, key) and surely_held(D, r, row, key) then
    D.taken[key] = true
    return true
  end
  if lost or (kept_for(D, key) and not D.strict) then return come_back(D, r, key) end
  local back = r.resume_id or (row and resumable(D.p, row))
  if D.strict or D.doubtful and not back then return false end -- what is free here may be a relay's
  if D.surely_room == nil then
    local wanted = D.count + room.reserved(D.p) + D.p.allotted
    D.surely_room = at_most(D) + D.kept + wanted <= D.p.capacity
  end
  if not D.surely_room then
    local place, ahead = room.reservation_of(D.p, r), {}
    if not back then
      ahead = line.before(D.line, holder(r.user, r.client), r)
    end
    local R, _, short = claims_of(D, ahead, key)
    if room.free(R, place) <= 0 and not displace(D, r, place, R, short) then return false end
    D.overdrawn = room.overdraws(room_of(D), place) or nil
  end
  if D.room then D.room.in_use = D.room.in_use + 1 end
  D.changed = D.changed + 1
  D.taken[key], D.emptied[key] = true, nil
  return true
end

local function grant(D, r, row, origin)
  local p = D.p
  D.fence = math.max(D.fence, r.resume_fence or 0) + 1
  local h = holder(r.user, r.client)
  local kept_id = D.in_doubt and kept.of_holder(p, h) or nil -- a lease that is not here is the same one
  local outlives = row and p.max_lease and row.expires > row.acquired + p.max_lease and live(p, row)
  local lease = {
    id = row and row.id or r.resume_id or kept_id or r.lease_id, pool = p.id, user = r.user,
    client = r.client, fence = D.fence, acquired = row and row.acquired or D.now, beat = D.now,
    suspect = D.now, expires = outlives and row.expires or D.now, origin = origin,
    session = r.session, device = r.device, member_of = r.member_of,
  }
  if row and live(p, row) then lease.overdraft = row.overdraft else lease.overdraft = D.overdrawn end
  lease.suspect, lease.expires = beat_times(p, lease, nil, false, D.now)
  lease.overage, D.over = D.over, nil
  if D.in_doubt then D.came[#D.came + 1] = {h, r.resume_id} end
  write(D, lease)
  local entry = line.leave(D.line, h)
  event(D, 'grant', lease, entry and math.max(0, D.now - entry.since))
  return {1, lease}
end

local function next_free_in(D)
  local least = D.used and D.used > 0 and D.next_free_in or nil
  for _, row in pairs(D.written) do
    if live(D.p, row) then
      local left = free_at(D.p, row) - D.now
      if not least or left < least then least = left end
    end
  end
  return least or 0
end

local function evidence(D)
  if D.silent_limit < EVIDENCE_MAX + #D.order then
    D.silent_limit = EVIDENCE_MAX + #D.order + 2 * D.count
    D.silent = most_silent(D.p, D.silent_limit)
  end
  return first_of(current(D, D.silent), EVIDENCE_MAX)
end

local function deny(D, r, reason)
  local denied = {reason = reason, at = D.now, limit = D.p.capacity or 0, used = 0, suspect = 0,
    retry = 0, mine = {}, evidence = {}, overdraft = 0, reserved = 0, reserved_free = 0,
    allotted = 0, tentative = false, waiting = 0, position = 0, full = false}
  local h, news = holder(r.user, r.client), true
  if reason ~= 'seat_limit' then
    if D.p.def then line.leave(D.line, h) end
  else
    local R, place = room_of(D), room.reservation_of(D.p, r)
    denied.used, denied.at = R.in_use - D.kept, D.at or D.now
    denied.overdraft, denied.reserved = D.p.overdraft, room.reserved(D.p)
    denied.reserved_free = room.kept_from(R, place)
    denied.allotted = D.p.allotted
    denied.suspect = math.max(0, D.suspect - D.restored)
    local doubtful = r.ask_all and denied.used or denied.suspect
    denied.tentative = r.tentative and doubtful > 0 and D.p.when_full ~= DENY
    news = not denied.tentative
    local waits = r.wait and not denied.tentative
    if waits then
      denied.entry, news = line.enter(D.line, h, r, place and D.p.reservations[place][1])
    end
    denied.retry = next_free_in(D)
    if D.in_doubt then denied.retry = D.doubted_until - D.now end
    denied.mine = first_of(own(D, r), EVIDENCE_MAX)
    denied.evidence = evidence(D)
    denied.waiting = D.line.size
    if denied.entry then denied.position = line.position(D.line, denied.entry) end
    denied.full = waits and not denied.entry
  end
  if news then event(D, 'denied', r, denied) end -- whose place was kept, was recorded at its beginning
  return {0, denied}
end

-- Is the lease that a token names no longer its bearer's to come back to?
local function superseded(D, r, row)
  if not r.resume_id then return false end
  if D.in_doubt then
    local _, latest = kept.of_holder(D.p, holder(r.user, r.client))
    if math.max(latest or 0, kept.fence(D.p, r.resume_id) or 0) > r.resume_fence then return true end
  end
  if not row or row.fence < r.resume_fence then return false end
  if row.id ~= r.resume_id or row.fence ~= r.resume_fence then return true end
  return not live(D.p, row) and not resumable(D.p, row)
end

-- Of two leases of one holder, is the one that is here the later one? Not if the token, or the ledger, knows
-- another that is not here.
local function row_is_theirs(D, r, row, lost)
  if not row then return false end
  if lost then return row.id == r.resume_id end
  return (kept.of_holder(D.p, holder(r.user, r.client)) or row.id) == row.id
end

function answer(D, r)
  local reason = D.refused
  local row = D.rows[holder(r.user, r.client)] or nil
  if not reason and r.session and not session_lives(r.session) then reason = 'session_gone' end
  if not reason and superseded(D, r, row) then reason = 'lease_ended' end
  if reason then return deny(D, r, reason) end
  if row and live(D.p, row) and surely_held(D, r, row, key_of(D.p, r.user, r.client)) then
    if row.suspect <= D.now and D.p.count_by == BY_LEASE then D.restored = D.restored + 1 end
    return grant(D, r, row, TAKEN_OVER)
  end
  local lost = forgotten(D, r, row)
  if not find_seat(D, r, row, lost) then return deny(D, r, 'seat_limit') end
  if row and not row.ended then event(D, 'end', row, EXPIRED, nil) end
  local other = D.in_doubt and not row_is_theirs(D, r, row, lost)
  if row and resumable(D.p, row) and not other then return grant(D, r, row, RESUMED) end
  return grant(D, r, nil, GRANTED)
end

end
