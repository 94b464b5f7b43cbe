-- Store.define, pools, usage, waiting and pulse; and what a store says of its clock.
local verb
verb, ASKED = ASKED[1], ASKED[2]
local verbs = {}

-- See lease.Shortening; `old` is how the pool was defined before.
local function shorten(p, old)
  local lowered = p.lost_after < old.lost_after or p.suspect_after < old.suspect_after
    or p.linger < old.linger or (p.max_lease and (not old.max_lease or p.max_lease < old.max_lease))
  if not lowered then return end
  local lost_after = p.lost_after + math.max(0, old.interval - p.interval)
  for _, row in ipairs(rows_between(p, '(' .. p.now, '+inf')) do
    local suspect, expires = row.suspect, row.expires
    if suspect <= row.beat and expires <= row.beat + old.linger then -- it said goodbye
      expires = row.beat + p.linger
    else
      local heard = math.max(row.beat, row.graced or 0)
      local announced = math.max(0, suspect - heard - old.suspect_after)
      suspect = heard + math.min(p.suspect_after + announced, lost_after)
      if expires - heard <= old.lost_after then expires = heard + lost_after end
      if p.max_lease then
        expires = math.min(expires, math.max(row.acquired + p.max_lease, heard + old.interval))
      end
    end
    suspect = math.min(row.suspect, suspect)
    expires = math.min(row.expires, math.max(expires, p.now))
    if suspect ~= row.suspect or expires ~= row.expires then
      row.suspect, row.expires = suspect, expires
      write_row(p, p.L, row)
      call('ZADD', p.Z, expires, row.id)
      due(p, expires)
      note_odd(p, expires - suspect, expires - row.beat, expires)
    end
  end
end

-- Asked: {pool, definition, buckets}, ...
function verbs.define()
  for _, asked in ipairs(ASKED) do
    local p = pool_of(asked[1])
    local last = call('ZREVRANGE', p.Z, 0, 0, 'WITHSCORES')
    local gap, span, old
    if p.def then
      gap, span = gap_of(p), span_of(p)
      old = {interval = p.interval, lost_after = p.lost_after, suspect_after = p.suspect_after,
        linger = p.linger, max_lease = p.max_lease}
    end
    call('SADD', BASE .. 'pools', p.id)
    local packed = cmsgpack.pack(asked[2])
    local longest = tonumber(call('HGET', SELF, 'lost') or 0)
    if asked[2][3] > longest then call('HSET', SELF, 'lost', asked[2][3]) end
    if p.def ~= packed then call('DEL', p.G, p.GC) end
    call('HSET', p.key, 'd', packed)
    define(p, packed)
    if #last == 0 and call('EXISTS', p.Y) == 0 then
      p.buckets = asked[3]
      call('HSET', p.key, 'n', p.buckets)
    elseif last[2] and gap then
      note_odd(p, gap, span, tonumber(last[2])) -- leases there are as the old policy had them
    end
    if old then shorten(p, old) end
  end
  return 1
end

-- Asked: pool, ...
function verbs.pools()
  local found = {}
  for i, id in ipairs(ASKED) do found[i] = call('HGET', BASE .. 'p:' .. id, 'd') end
  return found
end

function verbs.usage()
  local found = {}
  for i, id in ipairs(ASKED) do
    local p = pool_of(id)
    if p.def then
      local used, suspect = count(p)
      local members = #p.reservations > 0 and room.members(p, all_live(p)) or {}
      local R = room.of(p, used, members)
      found[i] = {p.capacity, used, suspect, live_count(p), p.now, p.overdraft, room.overdrawn(R), R.used,
        p.allotted}
    else
      found[i] = false
    end
  end
  return found
end

-- Asked: pool.
function verbs.waiting()
  local p = pool_of(ASKED[1])
  return {p.now, cmsgpack.pack(line.list(p))}
end

function verbs.pulse()
  identify()
  local pulse = last_pulse()
  local lasted, extended
  if stale(pulse) then lasted, extended = give_grace(pulse) end
  call('HSET', SELF, 'pulse', now)
  return lasted and {now, shift, lasted, extended} or {now, shift}
end

-- Answers: the store's now, and how far that is ahead of this server's clock.
function verbs.now() return {now, shift} end

local answer = verbs[verb]()
flush()
if verb == 'define' or verb == 'pulse' then tick() end
return answer
