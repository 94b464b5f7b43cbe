-- Pools and their leases. Of a pool <p>:
--   p:<p> hash    d: its definition; f: its fence; t: when seats were last decided; n: how many small
--                 hashes each of l, t and h is spread over; g s u: the widest gap and span of a lease
--                 that is not as the policy has it, until when; e b: see fences.lua;
--                 w: see line.lua, as w:<p>; a: see allotments.lua
--   l:<p>:<n>     small hashes: lease id -> row, of leases that have not ended
--   z:<p> zset    lease id by expires_at, of the same: seats are what lies after now
--   t:<p>:<n> y:<p>   the same for those that have ended, by ended_at
--   k:<p> zset    lease ids that a ledger knows and we do not, by how long their seats are kept; their
--                 fences are in the hash j:<p>, and i:<p> has holder -> lease id; see kept.lua
--   g:<p> gc:<p>  see fullness.lua
--   dp:<p> zset   the latest denials of a pool, du:<user> of a user: see index in base.lua
--   h:<p>:<n>     small hashes: digest of user, digest of client -> lease id; checked on every read
-- and of the shard: pools (their ids), pd (pools by when something in them may be due), x:<n> (small
-- hashes: digest of session, lease id -> pool).
-- Redis keeps a small hash as one block without a pointer in it, as long as no value in it is longer
-- than 64 bytes: a row whose user and client have up to 37 characters together is not.
-- Under 'g s' any live lease has expires_at - suspect_at <= gap, and expires_at - last_beat_at <= span:
-- so suspects and the most silent are found from the end of z where they must lie.
-- A row: a byte for form and origin, numbers, and packed: user, client, and where there are any session,
-- device, ended_at, reason, groups, overdraft. Of the numbers fence and acquired_at are as they are, last_beat_at lies so
-- many ms after that, and the others after last_beat_at, or idle_since before it. What does not fit into
-- the first two forms has the third. codec.py reads it, too.
local SHORT, IDLE, FULL = 0, 1, 2
local FORMS = {[SHORT] = '>BI4I6I4i4i4', [IDLE] = '>BI4I6I4i4i4I4', [FULL] = '>Bi6i6i6i6i6i6i6'}
local I4 = 2 ^ 31
local U4 = 2 ^ 32
local DIGEST = 4 -- bytes: of user and client together 64 bits, within one pool
local SESSION_BUCKETS = 16384
local RELEASED, EXPIRED, EVICTED, MOVED, REVOKED, SESSION_ENDED = 1, 2, 3, 4, 5, 6
local REASONS = {'released', 'expired', 'evicted', 'moved', 'revoked', 'session_ended'}
local ENDS = {'lease.released', 'lease.expired', 'lease.evicted', 'lease.evicted',
  'lease.revoked', 'lease.revoked'}
local DENY, RECLAIM, EVICT_IDLE = 0, 1, 2
local BY_LEASE, BY_USER, BY_CLIENT = 0, 1, 2
local TOMBSTONE = 86400000

local pools = {}
local as_if -- what a preview sees of a row that is owed something: see acquire.lua

local function define(p, packed)
  local d = cmsgpack.unpack(packed)
  p.def = packed
  p.capacity, p.interval, p.lost_after, p.suspect_after, p.linger = d[1], d[2], d[3], d[4], d[5]
  p.resume_window, p.count_by, p.when_full = d[6], d[7], d[8]
  p.idle_after, p.max_lease = d[9] or false, d[10] or false
  p.status, p.valid_from, p.valid_until = d[11], d[12] or false, d[13] or false
  p.overdraft, p.reservations = d[15] or 0, d[16] or {} -- {name, seats, users, groups, kinds}, ...
end

-- Read a pool's hash, once per script. Beats over many pools bear this once each: so what they do not ask for,
-- names of keys and rarer fields, comes when it is asked for; with `whole`, all fields at once.
local pool_of
do
  local PREFIXES = {L = 'l:', Z = 'z:', T = 't:', Y = 'y:', H = 'h:', K = 'k:', J = 'j:', W = 'w:', G = 'g:',
    GC = 'gc:', I = 'i:'}
  local SPREAD = {L = ':', T = ':', H = ':'}
  local RARE = {written_fence = true, raised = true, lost_ranges = true, line_until = true, shared = true,
    allotted = true}

  local function take_rare(p, fence, raised, ranges, line_until, shared)
    p.written_fence, p.raised, p.lost_ranges = tonumber(fence or 0), tonumber(raised or 0), ranges
    p.line_until = tonumber(line_until or 0)
    local allotted = 0
    if shared then -- see allotments.lua
      for _, row in ipairs(cmsgpack.unpack(shared)) do
        if p.now < row[4] then allotted = allotted + row[3] end
      end
    end
    p.shared, p.allotted = shared, allotted
  end

  local function come(p, name)
    local prefix = PREFIXES[name]
    if prefix then
      local key = BASE .. prefix .. p.id .. (SPREAD[name] or '')
      p[name] = key
      return key
    end
    if not RARE[name] then return nil end
    local r = call('HMGET', p.key, 'f', 'e', 'b', 'w', 'a')
    take_rare(p, r[1], r[2], r[3], r[4], r[5])
    return p[name]
  end

  local lazy = {__index = come}

  function pool_of(id, whole)
    local p = pools[id]
    if p then return p end
    local key, r = BASE .. 'p:' .. id, nil
    if whole then
      r = call('HMGET', key, 'd', 't', 'n', 'g', 's', 'u', 'f', 'e', 'b', 'w', 'a')
    else
      r = call('HMGET', key, 'd', 't', 'n', 'g', 's', 'u')
    end
    p = {id = id, key = key, buckets = tonumber(r[3] or 1), odd_until = tonumber(r[6] or 0),
      gap = tonumber(r[4] or 0), span = tonumber(r[5] or 0)}
    p.now = math.max(now, tonumber(r[2] or 0)) -- a pool's time never goes back
    if whole then take_rare(p, r[7], r[8], r[9], r[10], r[11]) end
    setmetatable(p, lazy)
    if r[1] then define(p, r[1]) end
    pools[id] = p
    return p
  end
end

local function all_pools()
  local ids = call('SMEMBERS', BASE .. 'pools')
  table.sort(ids)
  return ids
end

local function refusal(p)
  if not p.def then return 'feature_unknown' end
  if p.status ~= 0 then return 'license_suspended' end
  if p.valid_from and p.now < p.valid_from then return 'license_not_yet_valid' end
  if p.valid_until and p.now >= p.valid_until then return 'license_expired' end
  return nil
end

-- Return form and origin, the numbers (0: none), and where the rest of the row begins.
local function read_head(raw)
  local form = string.byte(raw) % 4
  if form == FULL then return struct.unpack(FORMS[FULL], raw) end
  local kind, fence, acquired, since, suspect, expires, idle, rest = struct.unpack(FORMS[form], raw)
  local beat = acquired + since
  if form == SHORT then idle, rest = 0, idle else idle = beat - idle end
  return kind, fence, acquired, beat, beat + suspect, beat + expires, idle, 0, rest
end

local function head_of(origin, fence, acquired, beat, suspect, expires, idle, graced)
  local since, s, e, i = beat - acquired, suspect - beat, expires - beat, beat - idle
  local kind = 4 * origin
  if graced == 0 and fence < U4 and since >= 0 and since < U4 and s >= -I4 and s < I4 and e >= -I4
    and e < I4
  then
    if idle == 0 then return struct.pack(FORMS[SHORT], kind, fence, acquired, since, s, e) end
    if i >= 0 and i < U4 then
      return struct.pack(FORMS[IDLE], kind + IDLE, fence, acquired, since, s, e, i)
    end
  end
  return struct.pack(FORMS[FULL], kind + FULL, fence, acquired, beat, suspect, expires, idle, graced)
end

local function decode(p, id, raw)
  local row = {id = id, pool = p.id, raw = raw}
  local kind, rest
  kind, row.fence, row.acquired, row.beat, row.suspect, row.expires, row.idle, row.graced, rest =
    read_head(raw)
  local t = cmsgpack.unpack(string.sub(raw, rest))
  row.origin = math.floor(kind / 4)
  row.user, row.client = t[1], t[2]
  row.session, row.device = t[3] or nil, t[4] or nil
  row.ended, row.reason = t[5] or nil, t[6] or nil
  row.member_of, row.overdraft = t[7] or nil, t[8] or nil
  if row.idle == 0 then row.idle = nil end
  if row.graced == 0 then row.graced = nil end
  if as_if then as_if(p, row) end
  return row
end

local function encode(row)
  local tail = {row.user, row.client}
  local marked = row.member_of or row.overdraft
  if row.session or row.device or row.ended or marked then
    tail[3], tail[4] = row.session or false, row.device or false
    if row.ended or marked then tail[5], tail[6] = row.ended or false, row.reason or false end
    if marked then tail[7], tail[8] = row.member_of or false, row.overdraft or false end
  end
  row.raw = head_of(row.origin, row.fence, row.acquired, row.beat, row.suspect, row.expires,
    row.idle or 0, row.graced or 0) .. cmsgpack.pack(tail)
  return row.raw
end

local function digest(text)
  return struct.pack('>I4', tonumber(string.sub(redis.sha1hex(text), 1, 2 * DIGEST), 16))
end

local function bucket(p, user_digest)
  return p.H .. (struct.unpack('>I4', user_digest) % p.buckets)
end

local function session_bucket(session_digest)
  return BASE .. 'x:' .. (struct.unpack('>I4', session_digest) % SESSION_BUCKETS)
end

-- The small hash that has a lease's row: of p.L or p.T. Ids end at random.
local function place_of(p, keys, id)
  local a, b, c = string.byte(id, -3, -1)
  return keys .. (((a or 0) * 131 + (b or 0)) * 131 + (c or 0)) % p.buckets
end

local function row_of(p, keys, id) return call('HGET', place_of(p, keys, id), id) end

local function write_row(p, keys, row) call('HSET', place_of(p, keys, row.id), row.id, encode(row)) end

local function drop_row(p, keys, id) call('HDEL', place_of(p, keys, id), id) end

local function index_session(row)
  if row.session then
    local d = digest(row.session)
    call('HSET', session_bucket(d), d .. row.id, row.pool)
  end
end

local function unindex_session(row)
  if row.session then
    local d = digest(row.session)
    call('HDEL', session_bucket(d), d .. row.id)
  end
end

local function live(p, row)
  return not row.ended and row.expires > p.now
end

local function find(p, id)
  local raw = row_of(p, p.L, id) or row_of(p, p.T, id)
  return raw and decode(p, id, raw) or nil
end

local function find_holder(p, user, client)
  local d = digest(user)
  local id = call('HGET', bucket(p, d), d .. digest(client))
  local row = id and find(p, id)
  if row and row.user == user and row.client == client then return row end
  return nil
end

-- Read many rows of l; ids whose row is gone are left out.
local function rows_of(p, ids)
  local found = {}
  for _, id in ipairs(ids) do
    local raw = row_of(p, p.L, id)
    if raw then found[#found + 1] = decode(p, id, raw) end
  end
  return found
end

local function rows_between(p, low, high, limit)
  if limit then
    return rows_of(p, call('ZRANGEBYSCORE', p.Z, low, high, 'LIMIT', 0, limit))
  end
  return rows_of(p, call('ZRANGEBYSCORE', p.Z, low, high))
end

local function rows_of_user(p, user)
  local d = digest(user)
  local entries = call('HGETALL', bucket(p, d))
  local found = {}
  for i = 1, #entries, 2 do
    if string.sub(entries[i], 1, DIGEST) == d then
      local row = find(p, entries[i + 1])
      if row and row.user == user then found[#found + 1] = row end
    end
  end
  return found
end

local function due(p, at)
  call('ZADD', BASE .. 'pd', 'LT', at, p.id)
end

local function gap_of(p)
  local regular = math.max(p.lost_after - p.suspect_after, p.linger)
  return p.now < p.odd_until and math.max(regular, p.gap) or regular
end

local function span_of(p)
  return p.now < p.odd_until and math.max(p.lost_after, p.span) or p.lost_after
end

-- Note that a lease lies outside what the policy makes of a beat: see the top.
local function note_odd(p, gap, span, till)
  if gap <= gap_of(p) and span <= span_of(p) then
    if p.odd_until == 0 or till <= p.odd_until then return end
    if gap <= math.max(p.lost_after - p.suspect_after, p.linger) and span <= p.lost_after then
      return
    end
  end
  if p.now >= p.odd_until then p.gap, p.span = 0, 0 end
  p.gap, p.span = math.max(p.gap, gap), math.max(p.span, span)
  p.odd_until = math.max(p.odd_until, till)
  call('HSET', p.key, 'g', p.gap, 's', p.span, 'u', p.odd_until)
end

-- Write a lease that has not ended, in the place of what its holder had.
local function put(p, row, old)
  if old and old.id ~= row.id then
    drop_row(p, p.L, old.id)
    call('ZREM', p.Z, old.id)
  end
  if old and (old.ended or old.id ~= row.id) then
    drop_row(p, p.T, old.id)
    call('ZREM', p.Y, old.id)
  end
  if not old or old.id ~= row.id then
    local d = digest(row.user)
    call('HSET', bucket(p, d), d .. digest(row.client), row.id)
  end
  if not old or old.id ~= row.id or old.session ~= row.session then
    if old then unindex_session(old) end
    index_session(row)
  end
  write_row(p, p.L, row)
  call('ZADD', p.Z, row.expires, row.id)
  due(p, row.expires)
  if p.def then note_odd(p, row.expires - row.suspect, row.expires - row.beat, row.expires) end
end

-- Change a lease to one that has ended; it is forgotten a day later.
local function bury(p, row, at, reason)
  row.ended, row.reason = at, reason
  drop_row(p, p.L, row.id)
  call('ZREM', p.Z, row.id)
  write_row(p, p.T, row)
  call('ZADD', p.Y, at, row.id)
  call('HDEL', p.G, 'f')
  due(p, at + TOMBSTONE)
end

local function forget(p, row)
  drop_row(p, p.L, row.id)
  call('ZREM', p.Z, row.id)
  drop_row(p, p.T, row.id)
  call('ZREM', p.Y, row.id)
  local d = digest(row.user)
  local key, field = bucket(p, d), d .. digest(row.client)
  if call('HGET', key, field) == row.id then call('HDEL', key, field) end
  unindex_session(row)
end

local function tell_end(p, row, reason, actor, at)
  tell(at, ENDS[reason], p.id, row.id, row.user, row.client, actor, {
    reason = REASONS[reason], fence = row.fence, silentFor = math.max(0, at - row.beat),
    heldFor = math.max(0, math.min(at, row.expires) - row.acquired),
    expiredFor = at > row.expires and at - row.expires or nil,
  })
end

-- See lease.beat_times.
local function beat_times(p, row, next_in, closing, at)
  if closing then
    return math.min(row.suspect, at), math.min(row.expires, at + p.linger)
  end
  local fresh = at + p.lost_after
  if p.max_lease then fresh = math.min(fresh, row.acquired + p.max_lease) end
  local patience = p.suspect_after
  if next_in then
    patience = math.min(patience + math.max(0, next_in - p.interval), p.lost_after)
  end
  return math.max(row.suspect, at + patience), math.max(row.expires, fresh)
end

-- Find the lease of an id: in the pool its token names, or, if nobody said, in any.
local known_pools
local function locate(id, hint)
  if hint then
    local p = pool_of(hint)
    local raw = row_of(p, p.L, id)
    return p, raw and decode(p, id, raw)
  end
  known_pools = known_pools or all_pools()
  for i = 1, #known_pools do
    local p = pool_of(known_pools[i])
    local raw = row_of(p, p.L, id)
    if raw then return p, decode(p, id, raw) end
  end
  return nil, nil
end
