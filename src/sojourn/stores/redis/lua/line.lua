-- The line of a pool: an exact translation of sojourn/line.py, name by name. Of a pool <p>:
--   w:<p> hash    who waits: holder -> {id, user, client, priority, since, expires_at, offer_until, reservation}
-- and of p:<p>    w: until when somebody may wait; later, nobody is looked for.
local line = {OFFER_FOR = 10000}
do -- a script has room for 200 local names at once

local WAITING_FOR, AGEING, LINE_MAX = 15000, 30000, 2000

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
          expires = e[6], offer = e[7] or nil, reservation = e[8] or nil}
        size = size + 1
      else
        dead[#dead + 1] = raw[i]
      end
    end
  end
  return entries, size, dead
end

function line.open(p)
  local L = {p = p, now = p.now, written = {}, left = {}}
  L.entries, L.size, L.dead = line.read(p)
  return L
end

local function in_order(L)
  L.list = L.list or sorted(L.entries, L.now)
  return L.list
end

-- Count those that come before an entry.
local function place_of(L, entry)
  local list = in_order(L)
  local low, high = 0, #list
  while low < high do
    local middle = math.floor((low + high) / 2)
    if before(list[middle + 1], entry, L.now) then low = middle + 1 else high = middle end
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

local function changed(entry, fields)
  local other = {id = entry.id, user = entry.user, client = entry.client, priority = entry.priority,
    since = entry.since, expires = entry.expires, reservation = entry.reservation}
  for name, value in pairs(fields) do other[name] = value end
  return other
end

-- Write another row of an entry, which keeps its place if its order is the same.
local function change(L, h, known, entry)
  if L.list then
    if not before(known, entry, L.now) and not before(entry, known, L.now) then
      L.list[place_of(L, known) + 1] = entry
    else
      L.list = nil
    end
  end
  write(L, h, entry)
end

-- List the first `count` in order who claim a seat.
local function claiming(L, count)
  local found = {}
  for i = 1, count do
    if not passed_over(L.list[i], L.now) then found[#found + 1] = L.list[i] end
  end
  return found
end

function line.before(L, h, r)
  if L.size == 0 then return {} end
  local entry = L.entries[h]
  if not entry and r.wait then entry = new(L, r) end
  return claiming(L, entry and place_of(L, entry) or #in_order(L))
end

function line.claiming(L) return claiming(L, #in_order(L)) end

function line.position(L, entry) return place_of(L, entry) + 1 end

-- Return the entry, nil if the line is full, and whether that is news.
function line.enter(L, h, r, reservation)
  local known = L.entries[h]
  if not known then
    if L.size >= LINE_MAX then return nil, true end
    local entry = new(L, r)
    entry.reservation = reservation
    if L.list and #L.list > 0 and before(entry, L.list[#L.list], L.now) then
      L.list = nil
    elseif L.list then
      L.list[#L.list + 1] = entry
    end
    write(L, h, entry)
    L.size = L.size + 1
    return entry, true
  end
  local entry = changed(known, {priority = r.priority, expires = L.now + WAITING_FOR})
  entry.reservation = reservation
  if not passed_over(known, L.now) then entry.offer = known.offer end
  change(L, h, known, entry)
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

-- Return to whom a seat is offered that was not before. `claims`: holders.
function line.offer(L, claims)
  local found, offered = {}, {}
  for h, entry in pairs(L.entries) do
    if not passed_over(entry, L.now) and (claims[h] or false) ~= (entry.offer ~= nil) then
      found[#found + 1] = h
    end
  end
  for _, h in ipairs(found) do
    local known = L.entries[h]
    local entry = changed(known, {offer = claims[h] and L.now + line.OFFER_FOR or nil})
    change(L, h, known, entry)
    if entry.offer then offered[#offered + 1] = entry end
  end
  table.sort(offered, function(a, b) return a.since < b.since end)
  return offered
end

function line.commit(L)
  local p, last = L.p, 0
  for _, list in ipairs({L.dead, L.left}) do
    for _, h in ipairs(list) do call('HDEL', p.W, h) end
  end
  for h, e in pairs(L.written) do
    call('HSET', p.W, h,
      cmsgpack.pack({e.id, e.user, e.client, e.priority, e.since, e.expires, e.offer or false,
        e.reservation or false}))
    last = math.max(last, e.expires)
  end
  if last > 0 then call('PEXPIRE', p.W, last - L.now + SET_AHEAD) end -- the dead of a line that nobody reads
  if last > p.line_until then
    p.line_until = last + WAITING_FOR
    call('HSET', p.key, 'w', p.line_until)
  end
end

-- As answers hold it.
function line.shown(p, e)
  return {e.id, p.id, e.user, e.client, e.priority, e.since, e.expires, e.offer or false,
    e.reservation or false}
end

function line.list(p)
  local found = {}
  for i, entry in ipairs(sorted(line.read(p), p.now)) do found[i] = line.shown(p, entry) end
  return found
end

end
