-- The line of a pool: an exact translation of sojourn/line.py, name by name. Of a pool <p>:
--   w:<p> hash    who waits: holder -> {id, user, client, priority, since, expires_at, offer_until}
-- and of p:<p>    w: until when somebody may wait; later, nobody is looked for.
local line = {OFFER_FOR = 10000}
do -- a script has room for 200 local names at once

local WAITING_FOR, AGEING, LINE_MAX = 15000, 30000, 2000
local LINE_KEPT = 86400000 -- ms: the dead of a line that nobody reads any more go by themselves

local function passed_over(entry, at) return entry.offer ~= nil and entry.offer <= at end

local function before(a, b, at)
  local x, y = a.offer ~= nil and a.offer > at, b.offer ~= nil and b.offer > at
  if x ~= y then return x end
  local r, s = a.since - a.priority * AGEING, b.since - b.priority * AGEING
  if r ~= s then return r < s end
  if a.since ~= b.since then return a.since < b.since end
  return a.id < b.id
end

local function sorted(entries, at)
  local list = {}
  for _, entry in pairs(entries) do list[#list + 1] = entry end
  table.sort(list, function(a, b) return before(a, b, at) end)
  return list
end

-- Read the live entries, and the fields of the dead.
function line.read(p)
  local entries, size, dead = {}, 0, {}
  if p.line_until > p.now then
    local raw = call('HGETALL', p.W)
    for i = 1, #raw, 2 do
      local e = cmsgpack.unpack(raw[i + 1])
      if e[6] > p.now then
        entries[raw[i]] = {id = e[1], user = e[2], client = e[3], priority = e[4], since = e[5],
          expires = e[6], offer = e[7] or nil}
        size = size + 1
      else
        dead[#dead + 1] = raw[i]
      end
    end
  end
  return entries, size, dead
end

-- `key`: names the seat a holder uses; `held`: is such a seat held already?
function line.open(p, key, held)
  local L = {p = p, now = p.now, key = key, held = held, written = {}, left = {}}
  L.entries, L.size, L.dead = line.read(p)
  return L
end

-- Add an entry to those that are in order, if it comes last.
local function append(L, entry)
  if not L.list then return end
  local n = #L.list
  if n > 0 and before(entry, L.list[n], L.now) then
    L.list = nil
    return
  end
  local key = L.key(entry.user, entry.client)
  local claims = not (passed_over(entry, L.now) or L.first[key] or L.held(key))
  if claims then L.first[key] = n end
  L.list[n + 1] = entry
  L.claimed[n + 1] = L.claimed[n] + (claims and 1 or 0)
end

local function in_order(L)
  if L.list then return end
  local list = sorted(L.entries, L.now)
  L.list, L.claimed, L.first = {}, {[0] = 0}, {}
  for _, entry in ipairs(list) do append(L, entry) end
end

-- Count those that come before an entry.
local function place_of(L, entry)
  local low, high = 0, #L.list
  while low < high do
    local middle = math.floor((low + high) / 2)
    if before(L.list[middle + 1], entry, L.now) then low = middle + 1 else high = middle end
  end
  return low
end

local function new(L, r)
  local latest = 0
  for _, entry in pairs(L.entries) do latest = math.max(latest, entry.since) end
  return {id = 'wait_' .. string.gsub(r.lease_id, '^lse_', ''), user = r.user, client = r.client,
    priority = r.priority, since = math.max(L.now, latest + 1), expires = L.now + WAITING_FOR}
end

local function write(L, h, entry)
  L.entries[h], L.written[h] = entry, entry
end

function line.seat_changed(L) L.list = nil end

function line.ahead(L, h, r)
  if L.size == 0 then return 0 end
  local entry = L.entries[h]
  if not entry and r.wait then entry = new(L, r) end
  in_order(L)
  local place = entry and place_of(L, entry) or #L.list
  local own = L.first[L.key(r.user, r.client)]
  return L.claimed[place] - ((own and own < place) and 1 or 0)
end

function line.position(L, entry)
  in_order(L)
  return place_of(L, entry) + 1
end

-- Return the entry, nil if the line is full, and whether that is news.
function line.enter(L, h, r)
  local known = L.entries[h]
  if not known then
    if L.size >= LINE_MAX then return nil, true end
    local entry = new(L, r)
    append(L, entry)
    write(L, h, entry)
    L.size = L.size + 1
    return entry, true
  end
  local over = passed_over(known, L.now)
  local entry = {id = known.id, user = known.user, client = known.client, priority = r.priority,
    since = known.since, expires = L.now + WAITING_FOR}
  if not over then entry.offer = known.offer end
  if over or entry.priority ~= known.priority then L.list = nil end
  write(L, h, entry)
  return entry, false
end

function line.leave(L, h)
  local entry = L.entries[h]
  if entry then
    L.entries[h], L.written[h], L.list = nil, nil, nil
    L.left[#L.left + 1] = h
    L.size = L.size - 1
  end
  return entry
end

-- Return to whom a seat is offered that was not before.
function line.offer(L, free, holder)
  local offered, keys, count = {}, {}, 0
  for _, entry in ipairs(sorted(L.entries, L.now)) do
    if not passed_over(entry, L.now) then
      if not entry.offer and count >= free then break end
      local key = L.key(entry.user, entry.client)
      local mine = not (L.held(key) or keys[key] or count >= free)
      if mine then
        keys[key], count = true, count + 1
      end
      if mine ~= (entry.offer ~= nil) then
        local changed = {id = entry.id, user = entry.user, client = entry.client,
          priority = entry.priority, since = entry.since, expires = entry.expires}
        if mine then
          changed.offer = L.now + line.OFFER_FOR
          offered[#offered + 1] = changed
        end
        write(L, holder(entry.user, entry.client), changed)
      end
    end
  end
  return offered
end

function line.commit(L)
  local p, last = L.p, 0
  for _, list in ipairs({L.dead, L.left}) do
    for _, h in ipairs(list) do call('HDEL', p.W, h) end
  end
  for h, e in pairs(L.written) do
    call('HSET', p.W, h,
      cmsgpack.pack({e.id, e.user, e.client, e.priority, e.since, e.expires, e.offer or false}))
    last = math.max(last, e.expires)
  end
  if last > 0 then call('PEXPIRE', p.W, LINE_KEPT) end
  if last > p.line_until then
    p.line_until = last + WAITING_FOR
    call('HSET', p.key, 'w', p.line_until)
  end
end

-- As answers hold it.
function line.shown(p, e)
  return {e.id, p.id, e.user, e.client, e.priority, e.since, e.expires, e.offer or false}
end

function line.list(p)
  local found = {}
  for i, entry in ipairs(sorted(line.read(p), p.now)) do found[i] = line.shown(p, entry) end
  return found
end

end
