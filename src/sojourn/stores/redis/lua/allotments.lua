-- Which seats of a pool relays may grant by themselves, as sojourn/allotment.py has it. Of a pool <p>:
--   a of p:<p>      {relay, fence, seats, until, held, want}, ... of each relay that ever had seats of it
-- and of the shard: shared (the pools with such a field), relays (hash: name -> {life, number, epoch, heard
-- at}); of its own hash re: the epoch; rd: until when relays may hold what is not known here; rl: the longest
-- ttl that was ever given.
local allotments = {}
do -- a script has room for 200 local names at once

local RELAYS_MAX = 500

function allotments.authority()
  local said = call('HMGET', SELF, 're', 'rd', 'rl')
  local A = {epoch = tonumber(said[1] or 1), doubt_until = tonumber(said[2] or 0),
    longest = tonumber(said[3] or 0), relays = {}, names = {}}
  local raw = call('HGETALL', BASE .. 'relays')
  for i = 1, #raw, 2 do
    local k = cmsgpack.unpack(raw[i + 1])
    A.relays[raw[i]] = {life = k[1], number = k[2], epoch = k[3], heard = k[4]}
    A.names[#A.names + 1] = raw[i]
  end
  table.sort(A.names)
  return A
end

function allotments.doubts(A, at)
  if at >= A.doubt_until then return false end
  for _, known in pairs(A.relays) do
    if known.epoch < A.epoch then return true end
  end
  return false
end

-- May relays hold more of a pool than is known?
function allotments.doubtful(p)
  if not p.shared then return false end
  local till = tonumber(call('HGET', SELF, 'rd') or 0)
  return p.now < till and allotments.doubts(allotments.authority(), p.now)
end

-- What a pool's hash has of relays, as of an instant.
function allotments.read(p, at)
  local S = {p = p, mine = {}, had = {}, fences = {}, size = 0}
  for _, row in ipairs(p.shared and cmsgpack.unpack(p.shared) or {}) do
    local name = row[1]
    S.fences[name], S.size = row[2], S.size + 1
    if row[4] > 0 then S.had[name] = row[3] end
    if at < row[4] then
      S.mine[name] = {seats = row[3], till = row[4], held = row[5], want = row[6]}
    end
  end
  return S
end

local function sorted(fences)
  local names = {}
  for name in pairs(fences) do names[#names + 1] = name end
  table.sort(names)
  return names
end

function allotments.rows(S)
  local rows = {}
  for i, name in ipairs(sorted(S.fences)) do
    local m = S.mine[name]
    rows[i] = {name, S.fences[name], m and m.seats or 0, m and m.till or 0, m and m.held or 0,
      m and m.want or 0}
  end
  return rows
end

local function allotted(S)
  local seats = 0
  for _, m in pairs(S.mine) do seats = seats + m.seats end
  return seats
end

-- Does a wish change nothing but until when an allotment lives?
local function plain(S, relay, wish)
  local mine = S.mine[relay]
  if not mine then return wish[5] == 0 and wish[2] == 0 end
  return wish[5] <= wish[2] and wish[2] == mine.seats and wish[3] == S.fences[relay]
end

-- Surely all seats that are out fit, with those kept for whom a ledger knows.
local function fits(p)
  fences.read(p)
  local leases = live_count(p)
  if p.count_by ~= BY_LEASE then leases = math.min(leases, fullness.at_most(p) or leases) end
  return leases + call('ZCOUNT', p.K, '(' .. p.now, '+inf') + p.allotted <= p.capacity
end

-- Count what of a pool is not free to be given. Where an allotment is but renewed, and surely all seats that
-- are out fit, nothing is counted: a beat costs the same however many sit there.
local function counted(S, ttl, renewed)
  local p = S.p
  p.allotted = allotted(S)
  S.capacity, S.overdraft, S.own, S.kept, S.ttl = p.capacity, p.overdraft, 0, 0, ttl
  S.closed = refusal(p) ~= nil
  if renewed and fits(p) then return end
  local keeps = kept.read(p) -- for whom a ledger knows
  local used = count(p) + keeps.seats
  local members = #p.reservations > 0 and room.members(p, all_live(p)) or {}
  local R, L, seated = room.of(p, used, members), line.open(p), {}
  for _, row in ipairs(keeps.rows) do room.enter(R, row) end
  for _, entry in ipairs(line.claiming(L)) do
    local key, place = key_of(p, entry.user, entry.client), nil
    for i, each in ipairs(p.reservations) do
      if each[1] == entry.reservation then place = i end
    end
    if p.count_by ~= BY_LEASE and not seated[key] then
      grouped(p)
      seated[key] = p.by_key[key] ~= nil or keeps.keys[key] ~= nil
    end
    if not seated[key] and room.free(R, place) > 0 then
      seated[key] = true
      room.take(R, place)
    end
  end
  S.own = used
  S.kept = math.max(0, p.capacity - used - p.allotted) - math.max(0, room.free(R, nil))
end

-- There is no such pool any more: what is allotted is asked back, and lives no longer.
local function dropped(S)
  S.capacity, S.overdraft, S.own, S.kept, S.ttl, S.closed = 0, 0, 0, 0, 0, true
end

local function restored(A, at, epoch)
  A.epoch = math.max(epoch or A.epoch + 1, at)
  A.doubt_until = math.max(A.doubt_until, at + A.longest)
end

local function notice(A, S, q, at)
  local known = A.relays[q.relay] or {epoch = 0}
  local ahead, new = false, not A.relays[q.relay] and q.epoch == 0
  for _, wish in ipairs(q.wishes) do
    local pool = S[wish[1]]
    new = new and wish[3] == 0
    ahead = ahead or pool and wish[2] > 0 and wish[3] > (pool.fences[q.relay] or 0)
  end
  local awaited = allotments.doubts(A, at) and known.epoch < A.epoch
  if q.epoch > A.epoch or (q.epoch == A.epoch and not awaited and ahead) then
    local longest = A.longest
    for _, pool in pairs(S) do A.longest = math.max(A.longest, pool.ttl) end
    restored(A, at, math.max(A.epoch, q.epoch) + 1)
    A.longest = longest
  end
  A.relays[q.relay] = {life = q.life, number = q.number, heard = at,
    epoch = (new or q.epoch == A.epoch) and A.epoch or known.epoch}
end

local function put(S, relay, fence, seats, till, wish)
  if not S.fences[relay] then S.size = S.size + 1 end
  S.fences[relay] = fence
  S.mine[relay] = {seats = seats, till = till, held = wish[4], want = wish[5]}
end

local function learn(S, relay, wish, at)
  local mine, till = S.mine[relay], at + S.ttl
  if mine then till = math.max(till, mine.till) end
  if wish[3] > (S.fences[relay] or 0) then
    put(S, relay, wish[3], wish[2], till, wish)
  elseif mine then
    local same = wish[3] == S.fences[relay]
    put(S, relay, S.fences[relay], same and math.min(mine.seats, wish[2]) or mine.seats, till, wish)
  end
end

local function give(S, relay, wish, at)
  local mine = S.mine[relay]
  local seats = mine and mine.seats or 0
  local free = S.capacity - S.own - S.kept - allotted(S)
  local more = S.closed and 0 or math.min(wish[5] - seats, free)
  if more <= 0 or (not S.fences[relay] and S.size >= RELAYS_MAX) then return end
  local till = math.max(at + S.ttl, mine and mine.till or 0)
  put(S, relay, (S.fences[relay] or 0) + 1, seats + more, till, wish)
end

-- How many of its seats is a relay to keep? -1: all.
local function keep(S, seats)
  if S.closed then return 0 end
  local over = S.own + allotted(S) - S.capacity - S.overdraft
  return over > 0 and math.max(0, seats - over) or -1
end

local function refused(A, q)
  local known = A.relays[q.relay]
  if known and q.number <= known.number and q.life ~= known.life then return 'relay_cloned' end
  if known and q.number < known.number then return 'relay_late' end
  if not known and #A.names >= RELAYS_MAX then return 'relay_limit' end
  return nil
end

local function tell_epoch(A, at)
  tell(at, 'authority.restored', nil, nil, nil, nil, nil,
    {epoch = A.epoch, doubtFor = math.max(0, A.doubt_until - at)})
end

local function tell_pool(S, at)
  for _, name in ipairs(sorted(S.fences)) do
    local mine, had = S.mine[name], S.had[name] or 0
    local seats = mine and mine.seats or 0
    if seats ~= had then
      tell(at, 'allotment.changed', S.p.id, name, nil, nil, nil,
        {seats = seats, had = had, fence = S.fences[name], expired = not mine or nil})
    end
  end
end

-- Hear a beat: {relay, life, number, epoch, {{pool, seats, fence, held, want, ttl}, ...}}. `shut`: nothing is
-- given, while it is in doubt whom we have forgotten.
function allotments.hear(asked, at, shut)
  local q = {relay = asked[1], life = asked[2], number = asked[3], epoch = asked[4], wishes = asked[5]}
  local A, S, order = allotments.authority(), {}, {}
  for _, wish in ipairs(q.wishes) do at = math.max(at, pool_of(wish[1]).now) end
  for _, wish in ipairs(q.wishes) do
    local p = pool_of(wish[1])
    p.now = at
    if p.def or p.shared then
      S[p.id], order[#order + 1] = allotments.read(p, at), p.id
      local pool = S[p.id]
      if p.def then counted(pool, wish[6], plain(pool, q.relay, wish)) else dropped(pool) end
    end
  end
  table.sort(order)
  local epoch, longest, known = A.epoch, A.longest, A.relays[q.relay]
  local refusal_of, grants = refused(A, q), {}
  local again = known and q.number == known.number
  if not refusal_of then
    if not again then notice(A, S, q, at) end
    local doubts = shut or (at < A.doubt_until and q.epoch ~= A.epoch) or allotments.doubts(A, at)
    for _, wish in ipairs(q.wishes) do
      local pool = S[wish[1]]
      if pool then
        if not again then
          learn(pool, q.relay, wish, at)
          if not doubts then give(pool, q.relay, wish, at) end
        end
        local mine = pool.mine[q.relay]
        if mine then
          -- A repeated beat renews nothing: it is promised what it was when it was heard.
          local ttl = again and math.min(pool.ttl, mine.till - known.heard) or pool.ttl
          grants[#grants + 1] = {wish[1], mine.seats, pool.fences[q.relay], ttl, keep(pool, mine.seats)}
          A.longest = math.max(A.longest, pool.ttl)
        end
      end
    end
    if not again then
      local k = A.relays[q.relay]
      call('HSET', BASE .. 'relays', q.relay, cmsgpack.pack({k.life, k.number, k.epoch, k.heard}))
    end
  end
  if A.epoch > epoch then
    call('HSET', SELF, 're', A.epoch, 'rd', A.doubt_until)
    tell_epoch(A, at)
  end
  if A.longest > longest then call('HSET', SELF, 'rl', A.longest) end
  for _, id in ipairs(order) do
    local p, rows = S[id].p, allotments.rows(S[id])
    call('HSET', p.key, 't', at)
    if #rows > 0 then
      p.shared = cmsgpack.pack(rows)
      call('HSET', p.key, 'a', p.shared)
      call('SADD', BASE .. 'shared', id)
    end
    p.allotted = allotted(S[id])
    tell_pool(S[id], at)
  end
  local number = refusal_of and (known and known.number or 0) or q.number
  return {A.epoch, number, refusal_of or false, grants}
end

function allotments.begin_epoch()
  local A = allotments.authority()
  restored(A, now)
  call('HSET', SELF, 're', A.epoch, 'rd', A.doubt_until)
  tell_epoch(A, now)
  return A.epoch
end

end
