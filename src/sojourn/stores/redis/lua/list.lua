-- Store.leases, a bounded piece at a time. Asked: license prefix, feature, user, client, session, ids,
-- with ended, after, limit, pools (none: all), place to go on from {pool number, part, cursor}, rows to read,
-- silent since.
local prefix, feature, user, client, session, ids, ended, after, limit, named = unpack(ASKED, 1, 10)
local place, budget = ASKED[11] or {1, 1, '0'}, ASKED[12]
local silent_since = ASKED[13]
local names = named or all_pools()
local found, seen = {}, {}

local function matches(p, row)
  return (not after or row.id > after) and (not user or row.user == user)
    and (not client or row.client == client) and (not session or row.session == session)
    and (not silent_since or row.beat <= silent_since) and (ended or live(p, row))
end

local function add(p, row)
  if row and not seen[row.id] and matches(p, row) then
    seen[row.id] = true
    found[#found + 1] = row
  end
end

local function of_interest(id)
  if prefix and string.sub(id, 1, #prefix) ~= prefix then return false end
  if not prefix and not ids and our_own(id) then return false end
  return not feature or string.sub(id, -#feature - 1) == ':' .. feature
end

-- Read on in a pool; return where to go on, or nil at its end.
local function scan(p, part, cursor)
  local indexes, keys = {p.Z, p.Y}, {p.L, p.T}
  while part <= (ended and 2 or 1) do
    repeat
      local step = call('ZSCAN', indexes[part], cursor, 'COUNT', 500)
      cursor = step[1]
      for i = 1, #step[2], 2 do
        local id = step[2][i]
        local raw = row_of(p, keys[part], id)
        if raw then add(p, decode(p, id, raw)) end
      end
      budget = budget - #step[2] / 2
    until cursor == '0' or budget <= 0
    if cursor ~= '0' then return {part, cursor} end
    part = part + 1
  end
  return nil
end

local function by_index(p)
  if ids then
    for _, id in ipairs(ids) do add(p, find(p, id)) end
    budget = budget - #ids
  else
    for _, row in ipairs(rows_of_user(p, user)) do add(p, row) end
  end
  budget = budget - 5
end

local more = false
if session and not ids then
  local d = digest(session)
  local entries = call('HGETALL', session_bucket(d))
  for i = 1, #entries, 2 do
    if string.sub(entries[i], 1, DIGEST) == d and of_interest(entries[i + 1]) then
      local p = pool_of(entries[i + 1])
      add(p, find(p, string.sub(entries[i], DIGEST + 1)))
    end
  end
else
  local number, part, cursor = place[1], place[2], place[3]
  while number <= #names do
    if budget <= 0 then
      more = {number, part, cursor}
      break
    end
    budget = budget - 1
    if of_interest(names[number]) then
      local p = pool_of(names[number])
      if ids or user then
        by_index(p)
      else
        local on = scan(p, part, cursor)
        if on then
          more = {number, on[1], on[2]}
          break
        end
      end
    end
    number, part, cursor = number + 1, 1, '0'
  end
end

table.sort(found, function(a, b) return a.id < b.id end)
local rows = {}
for i = 1, math.min(limit, #found) do
  rows[#rows + 1] = found[i].id
  rows[#rows + 1] = found[i].pool
  rows[#rows + 1] = found[i].raw
end
return {now, more and cmsgpack.pack(more) or '', rows}
