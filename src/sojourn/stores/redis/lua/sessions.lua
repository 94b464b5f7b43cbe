-- Sessions. What is decided here is decided in sojourn/signing_in.py, whose rules are cited by name.
-- Of a session <s>, the hash s:<s>:
--   m: what we know of it; h, p: its token's hash, and the one before; "<key>": its data, as JSON text
-- (the fields that begin with a quote). And of the shard: tok (token hash -> session id), u:<user> zset
-- of session ids by created_at, i (all ids, in order), d (ids by when they may be forgotten, at the
-- earliest: a touch does not move it), c (cutoffs by '=<user>', '*' of everybody), w (those whose
-- sessions are still to be swept, and how far that is), v (cutoffs by instant).
-- a zset of ids by when they may hold an address that is to be forgotten, at the earliest: by created_at, for
-- that of the device; later by the last use. n:<user> hash: how many sessions of
-- the user's own are known, tombstones included ('*'), and how many of them on each device.
-- u, i and d name what may be there; what is there is asked of s: on every read.
local SHOWN_MAX = 100
local USER, REVISION, CREATED, AUTHENTICATED, USED, IDLE_TIMEOUT, IDLE_AT, EXPIRES, DEVICE, LEVEL,
  IMPERSONATOR, ENDED, ENDED_BY, END_REASON, PREVIOUS_UNTIL, LABEL, LAST_DEVICE = 1, 2, 3, 4, 5, 6, 7, 8,
  9, 10, 11, 12, 13, 14, 15, 16, 17

local function key_of_session(id) return BASE .. 's:' .. id end

local cuts = {}

local function cut_of_scope(scope)
  if cuts[scope] == nil then
    local raw = call('HGET', BASE .. 'c', scope)
    cuts[scope] = raw and cmsgpack.unpack(raw) or false
  end
  return cuts[scope]
end

-- G2, first half: the earliest cutoff a session is behind; of two at once, its user's own.
local function cut_of(m)
  local own = m[USER] and cut_of_scope('=' .. m[USER])
  local all = cut_of_scope('*')
  if own and m[CREATED] > own[1] then own = false end
  if all and m[CREATED] > all[1] then all = false end
  if own and all then return own[1] <= all[1] and own or all end
  return own or all
end

-- Why a session is gone, as signing_in.why_gone: reason, ended by, end reason, at. Nil if it lives.
local function gone(m)
  if m[ENDED] then return {'ended', m[ENDED_BY], m[END_REASON], m[ENDED]} end -- G1
  local cut = cut_of(m)
  if cut and m[IDLE_AT] > math.min(cut[1], now) then return {'ended', cut[2], cut[3], cut[1]} end -- G2
  if m[IDLE_AT] > now then return nil end
  return {m[IDLE_AT] < m[EXPIRES] and 'idle' or 'expired', false, false, m[IDLE_AT]} -- G3
end

local function read_meta(id)
  local raw = call('HGET', key_of_session(id), 'm')
  return raw and cmsgpack.unpack(raw) or nil
end

local function read_live(id)
  local m = read_meta(id)
  return m and not gone(m) and m or nil
end

local lives = {}

-- For a verb that ends no session itself.
local function session_lives(id)
  if lives[id] == nil then lives[id] = read_live(id) ~= nil end
  return lives[id]
end

local function write_meta(id, m)
  m[LABEL], m[LAST_DEVICE] = m[LABEL] or false, m[LAST_DEVICE] or false -- older ones lack them
  call('HSET', key_of_session(id), 'm', cmsgpack.pack(m))
end

-- What tells a device that a user has used before from a new one: see Device.known_by.
local function known_by(device)
  local d = cjson.decode(device)
  local name = d.name or ''
  return #name .. ':' .. name .. (d.kind or '')
end

-- Note one more, or one less, of a user's own sessions; return how many are known by now, and how many
-- of them on its device.
local function count_own(m, by)
  local key = BASE .. 'n:' .. m[USER]
  local function change(field)
    local count = call('HINCRBY', key, field, by)
    if count <= 0 then call('HDEL', key, field) end
    return count
  end
  return change('*'), m[DEVICE] and change(known_by(m[DEVICE]))
end

-- What Python reads: id, m, then the data's keys and values.
local function shown(id)
  local all = call('HGETALL', key_of_session(id))
  local out = {id, ''}
  for i = 1, #all, 2 do
    if all[i] == 'm' then
      out[2] = all[i + 1]
    elseif string.byte(all[i]) == 34 then
      out[#out + 1], out[#out + 2] = all[i], all[i + 1]
    end
  end
  return out
end

local function sessions_of(user)
  local found = {}
  for _, id in ipairs(call('ZRANGE', BASE .. 'u:' .. user, 0, -1)) do
    local m = read_live(id)
    if m then found[#found + 1] = {id = id, m = m} end
  end
  return found
end

-- L1
local function newest_first(a, b)
  if a.m[CREATED] ~= b.m[CREATED] then return a.m[CREATED] > b.m[CREATED] end
  return a.id < b.id
end

local function oldest_first(a, b)
  if a.m[CREATED] ~= b.m[CREATED] then return a.m[CREATED] < b.m[CREATED] end
  return a.id < b.id
end

-- Answers: the live ones, and whether some are over by the clock that nobody has ended.
local function leases_of_session(session)
  local d = digest(session)
  local entries = call('HGETALL', session_bucket(d))
  local found, over = {}, false
  for i = 1, #entries, 2 do
    if string.sub(entries[i], 1, DIGEST) == d then
      local p = pool_of(entries[i + 1])
      local id = string.sub(entries[i], DIGEST + 1)
      local raw = row_of(p, p.L, id)
      local row = raw and decode(p, id, raw)
      if row and row.session == session then
        if live(p, row) then found[#found + 1] = row else over = over or not row.ended end
      end
    end
  end
  table.sort(found, function(a, b) return a.id < b.id end)
  return found, over
end

local function release_leases(session, actor)
  local rows, over = leases_of_session(session)
  -- A lease that is owed time for an outage would outlive its session.
  if over and not unsettled() and heal() then rows = leases_of_session(session) end
  for _, row in ipairs(rows) do
    local p = pool_of(row.pool)
    tell_end(p, row, SESSION_ENDED, actor or nil, now)
    bury(p, row, now, SESSION_ENDED)
  end
end

-- Put a tombstone, and release the leases that belong to the session.
local function end_session(id, m, at, reason, actor)
  m[ENDED], m[ENDED_BY], m[END_REASON] = at, actor or false, reason
  write_meta(id, m)
  if m[USER] then call('ZREM', BASE .. 'u:' .. m[USER], id) end
  call('ZREM', BASE .. 'i', id)
  call('ZADD', BASE .. 'd', at, id)
  tell(now, 'session.ended', nil, id, m[USER], nil, actor, {reason = reason})
  release_leases(id, actor)
end

local function forget_session(id, m)
  local key = key_of_session(id)
  local hashes = call('HMGET', key, 'h', 'p')
  for i = 1, 2 do
    if hashes[i] then call('HDEL', BASE .. 'tok', hashes[i]) end
  end
  if m and m[USER] then call('ZREM', BASE .. 'u:' .. m[USER], id) end
  call('ZREM', BASE .. 'i', id)
  call('ZREM', BASE .. 'd', id)
  call('ZREM', BASE .. 'a', id)
  if m and m[USER] and not m[IMPERSONATOR] then count_own(m, -1) end
  call('DEL', key)
end
