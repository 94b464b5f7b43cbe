-- Store.acquire, and with `dry` Store.preview. Asked: {dry, {request, ...}, strict, from how many leases on
-- it is worth keeping what a count has found}.
local dry, requests = ASKED[1], ASKED[2]
do -- a script has room for 200 local names at once

-- A preview changes nothing: it sees rows as they would be if our outage had been given back.
local function look_through(pulse)
  local lasted, served_until = now - pulse, served_till(pulse)
  as_if = function(p, row)
    if p.def and not row.ended and row.expires > served_until then grace(p, row, lasted) end
  end
  for _, q in ipairs(requests) do
    local p = pool_of(q[1])
    p.live = {}
    for _, row in ipairs(rows_between(p, '(' .. math.min(served_until, p.now), '+inf')) do
      if live(p, row) then table.insert(p.live, row) end
    end
  end
end

local function any_defined() -- of pools that are not there is only said so: then they are put back
  for _, q in ipairs(requests) do
    if pool_of(q[1]).def then return true end
  end
  return false
end

if not dry then
  identify()
  if unsettled(any_defined()) then return not_yet() end
  heal()
elseif stale(last_pulse()) then
  look_through(last_pulse())
end

end

local by_pool, order = {}, {}
for i, q in ipairs(requests) do
  local r = {index = i, pool = q[1], user = q[2], client = q[3], lease_id = q[4],
    session = q[5] or nil, device = q[6] or nil, takeover = q[7],
    resume_id = q[8] or nil, resume_fence = q[9] or nil, once = not dry and q[10] or nil,
    tentative = q[11], member_of = q[12] or nil, wait = q[13], priority = q[14],
    ask_all = q[15]}
  if not by_pool[r.pool] then
    by_pool[r.pool] = {}
    order[#order + 1] = r.pool
  end
  table.insert(by_pool[r.pool], r)
end

-- While it is in doubt whom we have forgotten: see identity.lua.
local doubted_until = tonumber(call('HGET', SELF, 'doubt') or 0)
local in_doubt = now < doubted_until
local strict = in_doubt and ASKED[3]
local noticed = strict and tonumber(call('HGET', SELF, 'noticed') or 0)

local rows, places, answers = {}, {}, {}

-- Rows are answered once each, and named by their place.
local function place(row)
  if not places[row] then
    rows[#rows + 1] = row.id
    rows[#rows + 1] = row.pool
    rows[#rows + 1] = row.raw or encode(row)
    places[row] = #rows / 3
  end
  return places[row]
end

local function placed(list)
  local found = {}
  for i, row in ipairs(list) do found[i] = place(row) end
  return found
end

-- Answer a request that came before as it was answered then: {2, note, answer}, or {3}.
local function repeated(kept)
  if not kept then return {3} end
  local answer = {0, unpack(kept, 5)}
  if kept[4] == 'lease' then
    for i = 5, 7 do rows[#rows + 1] = kept[i] end
    answer = {1, #rows / 3}
  end
  return {2, kept[3], answer}
end

local function keep(r, said, what)
  if said == 1 then
    repeats.keep(r.once, 'lease', what.id, what.pool, what.raw or encode(what))
  elseif what.reason ~= 'feature_unknown' and not what.tentative and not what.entry then -- may be another in a moment
    repeats.keep(r.once, 'denied', what.reason, what.at, what.limit, what.used, what.suspect,
      what.retry, {}, {}, false, what.overdraft, what.reserved, what.reserved_free, 0, 0, false, false,
      what.allotted)
  end
end

local function holders_of(denied)
  local found = {}
  for i, row in ipairs(denied.evidence) do
    found[i] = {leaseId = row.id, userId = row.user, clientId = row.client,
      lastBeatAgo = denied.at - row.beat, expiresIn = row.expires - denied.at}
  end
  return found
end

local function tell_all(p, D)
  for _, e in ipairs(D.log) do
    if e[1] == 'end' then
      tell_end(p, e[2], e[3], e[4], D.now)
    elseif e[1] == 'grant' then
      local lease = e[2]
      local said = {fence = lease.fence, waited = e[3], overage = lease.overage or nil,
        overdraft = lease.overdraft or nil}
      tell(D.now, ORIGIN_EVENTS[lease.origin], p.id, lease.id, lease.user, lease.client, nil, said)
    elseif e[1] == 'offered' then
      local entry = e[2]
      tell(D.now, 'lease.offered', p.id, entry.id, entry.user, entry.client, nil,
        {waited = math.max(0, D.now - entry.since), offerFor = line.OFFER_FOR})
    else
      local r, denied = e[2], e[3]
      local said = {
        reason = denied.reason, limit = denied.limit, inUse = denied.used,
        suspect = denied.suspect, retryAfter = denied.retry, holders = holders_of(denied),
      }
      if denied.overdraft > 0 then said.overdraft = denied.overdraft end
      if denied.reserved > 0 then
        said.reserved, said.reservedFree = denied.reserved, denied.reserved_free
      end
      if denied.allotted > 0 then said.allotted = denied.allotted end
      if denied.waiting > 0 then said.line = denied.waiting end
      if denied.entry then said.position = denied.position end
      if denied.full then said.lineFull = true end
      tell(D.now, denied.entry and 'lease.waiting' or DENIED, p.id, denied.entry and denied.entry.id,
        r.user, r.client, nil, said)
    end
  end
end

local function commit(p, D)
  fullness.note(D, ASKED[4])
  local granted = {}
  for _, h in ipairs(D.order) do
    local row, old = D.written[h], D.olds[h] or nil
    if row.ended then
      if old and old.fence == row.fence then
        bury(p, row, row.ended, row.reason)
      else -- granted and taken away again within this batch
        put(p, copy(row), old)
        bury(p, row, row.ended, row.reason)
      end
    else
      put(p, row, old)
      granted[#granted + 1] = row
    end
  end
  if #granted > 0 then fullness.add_clients(p, granted, p.fence, D.fence) end
  for _, came in ipairs(D.came) do kept.came(p, came[2], came[1]) end
  if p.def then fences.write(p, D.fence, 't', D.now) end
  line.commit(D.line)
  tell_all(p, D)
end

for _, id in ipairs(order) do
  local p = pool_of(id, true)
  local D = decide(p, by_pool[id])
  if in_doubt then
    D.in_doubt, D.strict, D.doubted_until, D.noticed = true, strict, doubted_until, noticed
    D.keeps = kept.read(p)
    D.kept = D.keeps.seats
  end
  D.doubtful = allotments.doubtful(p)
  if D.doubtful then D.surely_room = false end
  line.begin(D)
  for _, r in ipairs(by_pool[id]) do
    local kept = r.once and repeats.first(r.once)
    if kept ~= nil and r.once then
      answers[r.index] = repeated(kept)
    else
      local said = answer(D, r)
      local what = said[2]
      if said[1] == 1 then
        answers[r.index] = {1, place(what)}
      else
        answers[r.index] = {0, what.reason, what.at, what.limit, what.used, what.suspect,
          what.retry, placed(what.mine), placed(what.evidence), what.tentative or false, what.overdraft,
          what.reserved, what.reserved_free, what.waiting, what.position, what.full,
          what.entry and line.shown(p, what.entry) or false, what.allotted}
      end
      if r.once then keep(r, said[1], what) end
    end
  end
  if not dry then
    line.offer_seats(D)
    commit(p, D)
  end
end
flush()
if not dry then tick() end
return {cmsgpack.pack(answers), rows, now}
