-- Store.sweep. Asked: limit, retention of events, whether all is meant, then what a filter says:
-- license prefix, feature, user, client, session, ids; for how long addresses are remembered; silent since;
-- whether only cutoffs are meant.
local limit, retention, everything = ASKED[1], ASKED[2], ASKED[3]
local prefix, feature, user, client, session, ids = unpack(ASKED, 4, 9)
local ip_retention, silent_since, cutoffs_only = ASKED[10], ASKED[11], ASKED[12]
local LOOKED_MAX = 4 * limit -- at what is due in appearance only, in one sweep
local more = false
heal()

local named
if ids then
  named = {}
  for _, id in ipairs(ids) do named[id] = true end
end

local function wanted(row)
  return everything or ((not user or row.user == user) and (not client or row.client == client)
    and (not session or row.session == session) and (not named or named[row.id])
    and (not silent_since or row.beat <= silent_since))
end

local function pools_due()
  if everything then
    return call('ZRANGEBYSCORE', BASE .. 'pd', '-inf', now, 'LIMIT', 0, limit)
  end
  local found = {}
  for _, id in ipairs(all_pools()) do
    local fits = (prefix or ids or not our_own(id)) and (not prefix or string.sub(id, 1, #prefix) == prefix)
    if fits and (not feature or string.sub(id, -#feature - 1) == ':' .. feature) then
      found[#found + 1] = id
    end
  end
  return found
end

local function note_silent(p, most)
  local done = 0
  local due_ids = everything and call('ZRANGEBYSCORE', p.Z, '-inf', now, 'LIMIT', 0, most)
    or call('ZRANGEBYSCORE', p.Z, '-inf', now)
  for _, row in ipairs(rows_of(p, due_ids)) do
    if done >= most then break end
    if wanted(row) then
      tell_end(p, row, EXPIRED, 'system:sweep', now)
      bury(p, row, row.expires, EXPIRED)
      done = done + 1
    end
  end
  return done
end

local function forget_ended(p, most)
  local done = 0
  local until_then = now - TOMBSTONE
  local due_ids = everything and call('ZRANGEBYSCORE', p.Y, '-inf', until_then, 'LIMIT', 0, most)
    or call('ZRANGEBYSCORE', p.Y, '-inf', until_then)
  for _, id in ipairs(due_ids) do
    if done >= most then break end
    local row = find(p, id)
    if row and wanted(row) then
      forget(p, row)
      done = done + 1
    end
  end
  return done
end

-- Who had a seat that was kept, and did not come: of them the stream would tell no end, and the next loss find
-- them again as holders.
local function note_lost(p, most)
  local ids = call('ZRANGEBYSCORE', p.K, '-inf', now, 'LIMIT', 0, most)
  local holders = #ids > 0 and kept.holders(p) or {}
  for _, id in ipairs(ids) do
    local h, row, fence = holders[id] or {}, find(p, id), tonumber(call('HGET', p.J, id) or 0)
    if not row or row.fence < fence then
      tell(now, 'lease.expired', p.id, id, h.user, h.client, 'system:sweep',
        {reason = 'expired', fence = fence, lost = true})
    end
    kept.drop(p, id)
    if h.user then call('HDEL', p.I, kept.holder_of(h.user, h.client)) end
  end
  return #ids
end

local function next_due(p)
  local alive = call('ZRANGE', p.Z, 0, 0, 'WITHSCORES')[2]
  local dead = call('ZRANGE', p.Y, 0, 0, 'WITHSCORES')[2]
  local lost = call('ZRANGE', p.K, 0, 0, 'WITHSCORES')[2]
  local at = math.min(tonumber(alive or math.huge), tonumber(lost or math.huge))
  at = at < math.huge and at or nil
  if dead and (not at or tonumber(dead) + TOMBSTONE < at) then at = tonumber(dead) + TOMBSTONE end
  if at then call('ZADD', BASE .. 'pd', at, p.id) else call('ZREM', BASE .. 'pd', p.id) end
end

local silent, forgotten = 0, 0
local names = cutoffs_only and {} or pools_due()
if everything and #names == limit then more = true end
for _, id in ipairs(names) do
  local p = pool_of(id)
  silent = silent + note_silent(p, limit - silent)
  forgotten = forgotten + forget_ended(p, limit - forgotten)
  if everything then
    silent = silent + note_lost(p, limit - silent)
    next_due(p)
  end
end

-- Sessions behind a cutoff get their tombstones.
local cut, looked = 0, 0

local function end_behind(id)
  looked = looked + 1
  local m = read_meta(id)
  if not m or m[ENDED] then return end
  local why = gone(m)
  if why and why[1] == 'ended' then
    end_session(id, m, why[4], why[3] or '', why[2] or nil)
    cut = cut + 1
  end
end

local function follow_user(scope)
  local at = cut_of_scope(scope)[1]
  local key = BASE .. 'u:' .. string.sub(scope, 2)
  for _, id in ipairs(call('ZRANGEBYSCORE', key, '-inf', at)) do
    if cut >= limit or looked >= LOOKED_MAX then return false end
    end_behind(id)
  end
  return true
end

local function follow_all(scope, from)
  from = from == '' and '-' or from
  while true do
    local batch = call('ZRANGEBYLEX', BASE .. 'i', from, '+', 'LIMIT', 0, 200)
    if #batch == 0 then return true end
    for _, id in ipairs(batch) do
      if cut >= limit or looked >= LOOKED_MAX then
        call('HSET', BASE .. 'w', scope, '[' .. id)
        return false
      end
      end_behind(id)
      from = '(' .. id
    end
  end
end

local gone_count, events_gone = 0, 0
local function follow_cutoffs()
  local open = call('HGETALL', BASE .. 'w')
  for i = 1, #open, 2 do
    local scope = open[i]
    local all_done
    if scope == '*' then all_done = follow_all(scope, open[i + 1]) else all_done = follow_user(scope) end
    if not all_done then
      more = true
      return false
    end
    call('HDEL', BASE .. 'w', scope)
  end
  -- What has been followed, and is older than any tombstone, need not be remembered.
  local old = call('ZRANGEBYSCORE', BASE .. 'v', '-inf', now - TOMBSTONE, 'LIMIT', 0, limit)
  for _, scope in ipairs(old) do
    call('HDEL', BASE .. 'c', scope)
    call('ZREM', BASE .. 'v', scope)
  end
  return cut < limit
end

local function forget_sessions()
  local until_then, left = now - TOMBSTONE, LOOKED_MAX
  while gone_count < limit do
    local batch = call('ZRANGEBYSCORE', BASE .. 'd', '-inf', until_then, 'LIMIT', 0,
      math.min(200, limit - gone_count))
    if #batch == 0 then return end
    for _, id in ipairs(batch) do
      local m = read_meta(id)
      local dead = m and (m[ENDED] or m[IDLE_AT])
      if dead and dead > until_then then
        call('ZADD', BASE .. 'd', dead, id)
      else
        forget_session(id, m)
        if m then gone_count = gone_count + 1 end
      end
      left = left - 1
    end
    if left <= 0 then
      more = true
      return
    end
  end
end

local function forget_events()
  local until_then, last = now - retention, nil
  local marks = call('HMGET', SELF, 'ledger', 'recorded')
  local had = marks[1] and tonumber(marks[2] or 0) -- by the ledger: the rest waits for it
  local from = '-'
  while events_gone < limit do
    local batch = call('XRANGE', BASE .. 'ev', from, '+', 'COUNT', math.min(100, limit - events_gone))
    for _, entry in ipairs(batch) do
      local number = tonumber(string.match(entry[1], '^%d+'))
      if cmsgpack.unpack(entry[2][2])[1] > until_then or (had and number > had) then
        batch = {}
        break
      end
      last, from = entry[1], '(' .. entry[1]
      events_gone = events_gone + 1
    end
    if #batch == 0 then break end
  end
  if last then
    call('XTRIM', BASE .. 'ev', 'MINID', (tonumber(string.match(last, '^%d+')) + 1) .. '-0')
  end
end

local ips_gone = 0
local function forget_ips()
  local due_ids = call('ZRANGEBYSCORE', BASE .. 'a', '-inf', now - ip_retention, 'LIMIT', 0, limit)
  for _, id in ipairs(due_ids) do
    local m = read_meta(id)
    local gone, later = false, false
    for field, noted in pairs({[DEVICE] = CREATED, [LAST_DEVICE] = USED}) do
      local device = m and m[field] and cjson.decode(m[field])
      if device and device.ip and m[noted] > now - ip_retention then
        later = math.min(later or m[noted], m[noted])
      elseif device and device.ip then
        device.ip = nil
        m[field] = next(device) and cjson.encode(device) or '{}'
        gone = true
      end
    end
    if gone then write_meta(id, m) end
    if gone or not later then ips_gone = ips_gone + 1 end
    if later then call('ZADD', BASE .. 'a', later, id) else call('ZREM', BASE .. 'a', id) end
  end
end

-- Note denials that a version which did not has told; the latest first, until their lists are full.
local function index_older()
  local from = call('HGET', SELF, 'indexed') or tonumber(call('HGET', SELF, 'events') or 0) + 1
  if tonumber(from) <= 1 then return end
  local batch = call('XREVRANGE', BASE .. 'ev', '(' .. from .. '-0', '-', 'COUNT', limit)
  for _, entry in ipairs(batch) do
    from = string.match(entry[1], '^%d+')
    local told = cmsgpack.unpack(entry[2][2])
    local pool, user = told[2] == DENIED and told[3], told[2] == DENIED and told[5]
    for _, key in ipairs({pool and 'dp:' .. pool, user and 'du:' .. user}) do
      if key and call('ZCARD', BASE .. key) < INDEXED_MAX then
        call('ZADD', BASE .. key, from, from)
        index_for(BASE .. key)
      end
    end
  end
  if #batch == limit then more = true else from = 1 end
  call('HSET', SELF, 'indexed', from)
end

if cutoffs_only then
  follow_cutoffs()
elseif everything then
  call('HSET', SELF, 'kept', retention)
  index_older()
  if follow_cutoffs() then forget_sessions() end
  forget_events()
  if ip_retention then forget_ips() end
end
if silent >= limit or forgotten >= limit or cut >= limit or gone_count >= limit
  or events_gone >= limit or ips_gone >= limit then
  more = true
end
flush()
tick()
return {silent, forgotten, cut, gone_count, events_gone, ips_gone, more and 1 or 0}
