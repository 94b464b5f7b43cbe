-- Which seats are free for whom: an exact translation of sojourn/room.py, name by name.
local room = {}
do -- a script has room for 200 local names at once

local function has(list, value)
  for _, each in ipairs(list) do
    if each == value then return true end
  end
  return false
end

-- Return the place of the reservation that a holder counts into, or nil.
function room.reservation_of(p, holder)
  local kind
  for place, each in ipairs(p.reservations) do
    if has(each[3], holder.user) then return place end
    for _, group in ipairs(holder.member_of or {}) do
      if has(each[4], group) then return place end
    end
    if #each[5] > 0 and holder.device then
      kind = kind or cjson.decode(holder.device).kind or ''
      if has(each[5], kind) then return place end
    end
  end
  return nil
end

-- Return the rows among these that count into a reservation.
function room.members(p, rows)
  local found = {}
  if #p.reservations > 0 then
    for _, row in ipairs(rows) do
      if room.reservation_of(p, row) then found[#found + 1] = row end
    end
  end
  return found
end

function room.reserved(p)
  local seats = 0
  for _, each in ipairs(p.reservations) do seats = seats + each[2] end
  return seats
end

local function before(one, other)
  if one.acquired ~= other.acquired then return one.acquired < other.acquired end
  return one.fence < other.fence
end

function room.of_seat(R, key)
  local first
  for _, each in pairs(R.seats[key] or {}) do
    if not first or before(each, first) then first = each end
  end
  return first and first.place
end

local function set(R, row, place)
  if #R.p.reservations == 0 then return end
  local key = key_of(R.p, row.user, row.client)
  local was = room.of_seat(R, key)
  R.seats[key] = R.seats[key] or {}
  R.seats[key][#row.user .. ':' .. row.user .. row.client] =
    place and {acquired = row.acquired, fence = row.fence, place = place}
  local is = room.of_seat(R, key)
  if was then R.used[was] = R.used[was] - 1 end
  if is then R.used[is] = R.used[is] + 1 end
end

function room.enter(R, row) set(R, row, room.reservation_of(R.p, row)) end

function room.leave(R, row) set(R, row, nil) end

function room.of(p, in_use, members)
  local R = {p = p, in_use = in_use, used = {}, seats = {}}
  for place = 1, #p.reservations do R.used[place] = 0 end
  for _, row in ipairs(members) do room.enter(R, row) end
  return R
end

-- A pool as it was known to be, with the seats that count into each of its reservations.
function room.known(p, in_use, used) return {p = p, in_use = in_use, used = used, seats = {}} end

local function unused(p, used)
  local seats, sum = {}, 0
  for place, each in ipairs(p.reservations) do
    seats[place] = math.max(0, each[2] - used[place])
    sum = sum + seats[place]
  end
  return seats, sum
end

local function free(p, in_use, used, place, overdraft)
  local left = p.capacity + (overdraft and p.overdraft or 0) - in_use - p.allotted
  local seats, sum = unused(p, used)
  return math.min(left, (place and seats[place] or 0) + math.max(0, left - sum))
end

function room.free(R, place, overdraft) return free(R.p, R.in_use, R.used, place, overdraft) end

function room.overdraws(R, place)
  local seats, sum = unused(R.p, R.used)
  return not (place and seats[place] > 0) and R.p.capacity - R.in_use - R.p.allotted - sum <= 0
end

function room.kept_from(R, place)
  local seats, sum = unused(R.p, R.used)
  return sum - (place and seats[place] or 0)
end

function room.overdrawn(R)
  local _, sum = unused(R.p, R.used)
  return math.max(0, R.in_use + R.p.allotted + sum - R.p.capacity)
end

local function helps(p, in_use, used, place, reservation, overdraft)
  local seats, sum = unused(p, used)
  local left = p.capacity + (overdraft and p.overdraft or 0) - in_use - p.allotted
  local entitled = (place and seats[place] or 0) + math.max(0, left - sum)
  if entitled > 0 or not reservation or reservation == place then return true end
  return used[reservation] > p.reservations[reservation][2]
end

local function copied(list)
  local other = {}
  for i, value in ipairs(list) do other[i] = value end
  return other
end

local function helping(p, S, place, victims, gone, suspect, overdraft)
  for i, victim in ipairs(victims) do
    if victim.suspect == suspect and not gone[i]
      and helps(p, S.in_use, S.used, place, victim.reservation, overdraft)
    then
      return i
    end
  end
end

-- Choose among the suspects, and then with `idle` among all, until there is a seat; carry S and gone on.
local function choose(p, S, place, victims, gone, idle, overdraft)
  local ended = {}
  while free(p, S.in_use, S.used, place, overdraft) <= 0 do
    local chosen = helping(p, S, place, victims, gone, true, overdraft)
    if not chosen and idle then chosen = helping(p, S, place, victims, gone, false, overdraft) end
    if not chosen then break end
    ended[#ended + 1], gone[chosen] = chosen, true
    S.in_use = S.in_use - 1
    local from = victims[chosen].reservation
    if from then S.used[from] = S.used[from] - 1 end
  end
  return ended
end

-- One to try with, of which only the counts may change.
function room.copy(R)
  return {p = R.p, in_use = R.in_use, used = copied(R.used), seats = R.seats}
end

function room.take(R, place)
  R.in_use = R.in_use + 1
  if place then R.used[place] = R.used[place] + 1 end
end

function room.give_up(R, place)
  R.in_use = R.in_use - 1
  if place then R.used[place] = R.used[place] - 1 end
end

function room.to_end(R, place, victims)
  local S = {in_use = R.in_use, used = copied(R.used)}
  local gone = {}
  local ended = choose(R.p, S, place, victims, gone, false, false)
  if free(R.p, S.in_use, S.used, place, true) > 0 then return ended end
  local more = choose(R.p, S, place, victims, gone, true, true)
  if free(R.p, S.in_use, S.used, place, true) <= 0 then return ended end
  for _, i in ipairs(more) do ended[#ended + 1] = i end
  for _, i in ipairs(choose(R.p, S, place, victims, gone, false, false)) do ended[#ended + 1] = i end
  return ended
end

function room.moves(R, place, reservation)
  local used = copied(R.used)
  if reservation then used[reservation] = used[reservation] - 1 end
  return free(R.p, R.in_use - 1, used, place, true) > 0
end

end
