-- Store.create. Asked: most bytes, {id, hash, user, {key, value, ...}, lifetime, idle_timeout, device,
-- level, impersonator, replaces, {ending, ...}, limit, deny, what is said of a new device, whether it has
-- an address, key}, ...
local data_max = table.remove(ASKED, 1)

-- S2
local function data_of_replaced(new)
  local m = new.replaces and read_live(new.replaces)
  local data = {}
  if m and (not m[USER] or m[USER] == new.user) and not m[IMPERSONATOR] then
    local all = call('HGETALL', key_of_session(new.replaces))
    for i = 1, #all, 2 do
      if string.byte(all[i]) == 34 then data[all[i]] = all[i + 1] end
    end
  end
  for k = 1, #new.own, 2 do data[new.own[k]] = new.own[k + 1] end
  return data, m
end

local function size_of(data)
  local size, count = 2, 0
  for k, v in pairs(data) do
    size, count = size + #k + 1 + #v, count + 1
  end
  return size + math.max(0, count - 1)
end

local function begin(new, data)
  local created = now -- S6
  local own, all = new.user and cut_of_scope('=' .. new.user), cut_of_scope('*')
  if own then created = math.max(created, own[1] + 1) end
  if all then created = math.max(created, all[1] + 1) end
  local idle_at = now + math.min(new.idle_timeout, new.lifetime)
  local key = key_of_session(new.id)
  call('HSET', key, 'h', new.hash)
  for k, v in pairs(data) do call('HSET', key, k, v) end
  local m = {new.user or false, 1, created, now, now, new.idle_timeout, idle_at,
    now + new.lifetime, new.device or false, new.level, new.impersonator or false, false, false,
    false, false, new.label or false}
  write_meta(new.id, m)
  call('HSET', BASE .. 'tok', new.hash, new.id)
  if new.user then call('ZADD', BASE .. 'u:' .. new.user, created, new.id) end
  call('ZADD', BASE .. 'i', 0, new.id)
  call('ZADD', BASE .. 'd', idle_at, new.id)
  if new.ip then call('ZADD', BASE .. 'a', created, new.id) end
  tell(now, 'session.created', nil, new.id, new.user)
  if new.user and not new.impersonator then
    local known, on_device = count_own(m, 1)
    if on_device == 1 then
      tell(now, 'session.new_device', nil, new.id, new.user, nil, nil,
        {new.said, 'first', known == 1})
    end
  end
  return {1, shown(new.id)}
end

-- Return which sessions have to go, in order; or what is said to one who has too many: an exact
-- translation of signing_in.leaving.
local function going_for(new, replaced)
  local going, named = {}, {}
  local function go(id, m, reason, actor)
    if not named[id] then
      named[id] = true
      going[#going + 1] = {id, m, reason, actor}
    end
  end
  if replaced then go(new.replaces, replaced, 'replaced') end -- S1
  if new.user and not new.impersonator then
    for _, id in ipairs(new.ending) do -- S3
      local m = read_live(id)
      if m and m[USER] == new.user then go(id, m, 'made_room') end
    end
  end
  if new.limit and new.user and not new.impersonator then
    local counted = {} -- S4
    for _, each in ipairs(sessions_of(new.user)) do
      if not each.m[IMPERSONATOR] and not named[each.id] then counted[#counted + 1] = each end
    end
    local over = math.max(0, #counted + 1 - new.limit) -- S5
    if over > 0 and new.deny then
      table.sort(counted, newest_first)
      local said = {2, new.limit}
      for i = 1, math.min(SHOWN_MAX, #counted) do said[i + 2] = shown(counted[i].id) end
      return nil, said
    end
    table.sort(counted, oldest_first)
    for i = 1, math.min(over, #counted) do
      go(counted[i].id, counted[i].m, 'session_limit', 'system:limit')
    end
  end
  return going
end

-- Answer a request that came before: {3, note, session}, {4, note, limit, session, ...}, or {5}: another's.
-- Nil if its session was forgotten meanwhile.
local function repeated(kept)
  if not kept then return {5} end
  local out, ids = {3, kept[3]}, {kept[5]}
  if kept[4] == 'limit' then out, ids = {4, kept[3], kept[5]}, kept[6] end
  for _, id in ipairs(ids) do
    if read_meta(id) then out[#out + 1] = shown(id) end
  end
  return (kept[4] == 'limit' or out[3]) and out or nil
end

local function keep(new, said)
  if said[1] == 1 then
    repeats.keep(new.once, 'session', new.id)
  elseif said[1] == 2 then
    local ids = {}
    for i = 3, #said do ids[i - 2] = said[i][1] end
    repeats.keep(new.once, 'limit', new.limit, ids)
  end
end

local function create(new)
  if call('EXISTS', key_of_session(new.id)) == 1 then return {0} end
  if call('HEXISTS', BASE .. 'tok', new.hash) == 1 then return {0} end
  local data, replaced = data_of_replaced(new)
  local going, said = going_for(new, replaced)
  if said then return said end
  if replaced and new.user and replaced[USER] == new.user and not new.impersonator -- S7
    and not replaced[IMPERSONATOR] then
    new.label = replaced[LABEL]
  end
  for _, each in ipairs(going) do end_session(each[1], each[2], now, each[3], each[4]) end
  return begin(new, data)
end

local news = {}
for i, q in ipairs(ASKED) do
  news[i] = {id = q[1], hash = q[2], user = q[3] or nil, own = q[4], lifetime = q[5],
    idle_timeout = q[6], device = q[7] or nil, level = q[8], impersonator = q[9] or nil,
    replaces = q[10] or nil, ending = q[11], limit = q[12] or nil, deny = q[13],
    said = q[14], ip = q[15], once = q[16] or nil}
  local size = size_of(data_of_replaced(news[i]))
  if size > data_max then return {'large', size} end
end
local answers = {}
for i, new in ipairs(news) do
  local kept
  if new.once then kept = repeats.first(new.once) end
  answers[i] = kept ~= nil and repeated(kept) or create(new)
  if new.once and answers[i][1] < 3 then keep(new, answers[i]) end
end
flush()
tick()
return {'done', now, answers}
