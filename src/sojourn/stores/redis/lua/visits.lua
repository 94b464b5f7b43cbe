-- Store.load, save, touch, rotate, answered, of, page, held, gone and sessions.
local verb
verb, ASKED = ASKED[1], ASKED[2]
local verbs = {}

-- Asked: token hash, ...
function verbs.load()
  local found = {now}
  for i, hash in ipairs(ASKED) do
    local id = call('HGET', BASE .. 'tok', hash)
    local said = ''
    if id then
      local row = call('HMGET', key_of_session(id), 'm', 'h')
      if row[1] then
        local m = cmsgpack.unpack(row[1])
        if hash == row[2] or now < (m[PREVIOUS_UNTIL] or 0) then
          local why = gone(m)
          said = why and cmsgpack.pack(why) or shown(id)
        end
      end
    end
    found[i + 1] = said
  end
  return found
end

local function size_of(data)
  local size, count = 2, 0
  for k, v in pairs(data) do
    size, count = size + #k + 1 + #v, count + 1
  end
  return size + math.max(0, count - 1)
end

local function data_of(id)
  local all, data = call('HGETALL', key_of_session(id)), {}
  for i = 1, #all, 2 do
    if string.byte(all[i]) == 34 then data[all[i]] = all[i + 1] end
  end
  return data
end

-- Tell what was answered first to each request of a save that has a key: false where it is another's. A copy
-- within the call is known by the place of the first.
local function first_answers()
  local found, first = {}, {}
  for i, asked in ipairs(ASKED) do
    local key = asked[4]
    if key then
      local before = first[key[1]]
      found[i] = repeats.first(key)
      if found[i] == nil and before then
        found[i] = ASKED[before][4][2] == key[2] and {place = before}
      elseif found[i] == nil then
        first[key[1]] = i
      end
    end
  end
  return found
end

-- Asked: most bytes, {id, {key, value, ...}, {key to go, ...}, key}, ... It is all or nothing. Answers: the
-- revision; 0: gone; {note, the first revision}: it was saved before; -1: that was another's.
function verbs.save()
  local data_max = table.remove(ASKED, 1)
  local metas, datas, before = {}, {}, first_answers()
  for i, asked in ipairs(ASKED) do
    local id = asked[1]
    if before[i] == nil and metas[id] == nil then
      metas[id] = read_live(id) or false
      if metas[id] then datas[id] = data_of(id) end
    end
    if before[i] == nil and metas[id] then
      for _, key in ipairs(asked[3]) do datas[id][key] = nil end
      for k = 1, #asked[2], 2 do datas[id][asked[2][k]] = asked[2][k + 1] end
    end
  end
  for _, data in pairs(datas) do
    local size = size_of(data)
    if size > data_max then return {'large', size} end
  end
  local answers = {}
  for i, asked in ipairs(ASKED) do
    local m, key = metas[asked[1]], key_of_session(asked[1])
    answers[i] = 0
    if before[i] == false then
      answers[i] = -1
    elseif before[i] then
      local place = before[i].place
      local said = place and answers[place] or before[i][5]
      answers[i] = said == 0 and 0 or {place and ASKED[place][4][3] or before[i][3], said}
    elseif m then
      for _, gone_key in ipairs(asked[3]) do call('HDEL', key, gone_key) end
      for k = 1, #asked[2], 2 do call('HSET', key, asked[2][k], asked[2][k + 1]) end
      m[REVISION] = m[REVISION] + 1
      answers[i] = m[REVISION]
      if asked[4] then repeats.keep(asked[4], 'revision', answers[i]) end
    end
  end
  for id, m in pairs(metas) do
    if m then write_meta(id, m) end
  end
  tick()
  return {'saved', answers, now}
end

-- Asked: id, its last device if that is known anew, whether it has an address, ...
function verbs.touch()
  local answers = {}
  for i = 1, #ASKED, 3 do
    local id, device, ip = ASKED[i], ASKED[i + 1], ASKED[i + 2]
    local m = read_live(id)
    answers[#answers + 1] = m and 1 or 0
    if m then
      if device then m[LAST_DEVICE] = device end
      if ip then call('ZADD', BASE .. 'a', 'NX', now, id) end
      m[USED] = math.max(m[USED], now)
      m[IDLE_AT] = math.max(m[IDLE_AT], math.min(now + m[IDLE_TIMEOUT], m[EXPIRES]))
      write_meta(id, m)
    end
  end
  tick()
  return answers
end

-- Asked: id, user, what its device is called from now on.
function verbs.rename()
  local id, user, label = unpack(ASKED, 1, 3)
  local m = read_live(id)
  if not m or m[USER] ~= user then return 0 end
  m[LABEL] = label
  write_meta(id, m)
  tick()
  return 1
end

-- Asked: id, the new hash, grace, level, key.
function verbs.rotate()
  local id, hash, grace, level, once = unpack(ASKED, 1, 5)
  local kept
  if once then kept = repeats.first(once) end
  if kept == false then return 2 end
  if kept and read_meta(kept[5]) then return {now, shown(kept[5]), kept[3]} end
  local m, key = read_live(id), key_of_session(id)
  if not m then return 0 end
  if call('HEXISTS', BASE .. 'tok', hash) == 1 then return 1 end
  local old = call('HMGET', key, 'h', 'p')
  if old[2] then call('HDEL', BASE .. 'tok', old[2]) end
  if grace > 0 then
    call('HSET', key, 'p', old[1])
  else -- forgotten, so that no clock that is set back revives it
    call('HDEL', BASE .. 'tok', old[1])
    call('HDEL', key, 'p')
  end
  m[PREVIOUS_UNTIL] = grace > 0 and now + grace or false
  call('HSET', key, 'h', hash)
  call('HSET', BASE .. 'tok', hash, id)
  if level then m[LEVEL], m[AUTHENTICATED] = level, now end
  write_meta(id, m)
  if once then repeats.keep(once, 'session', id) end
  tell(now, 'session.rotated', nil, id, m[USER])
  flush()
  tick()
  return {now, shown(id)}
end

-- Asked: key, ... Answers, each: 0: nothing is kept; 1: it was another's; or note, kind and answer.
function verbs.answered()
  local out = {now}
  for i, key in ipairs(ASKED) do
    local kept = repeats.first(key)
    local said = kept and {kept[3], kept[4], kept[5]} or (kept == false and 1 or 0)
    if kept and kept[4] == 'session' then
      said = read_meta(kept[5]) and {kept[3], kept[4], shown(kept[5])} or 0
    elseif kept and (kept[4] == 'lease' or kept[4] == 'denied' or kept[4] == 'limit') then
      said = 0 -- who asks so can name what these were about, and is told by the verb
    end
    out[i + 1] = said
  end
  return out
end

-- Some of a user's live sessions, newest first: at most so many are looked at, and those that began in the
-- same ms; then where to go on, or '' at the end. `from`: what the piece before said.
local function piece_of(user, from, most)
  local key, low = BASE .. 'u:' .. user, ''
  local entries = call('ZREVRANGEBYSCORE', key, from or '+inf', '-inf', 'WITHSCORES', 'LIMIT', 0, most)
  if #entries == 2 * most then
    low = entries[#entries]
    entries = call('ZREVRANGEBYSCORE', key, from or '+inf', low, 'WITHSCORES')
    low = '(' .. low
  end
  local found = {}
  for i = 1, #entries, 2 do
    local m = read_live(entries[i])
    if m then found[#found + 1] = {id = entries[i], m = m} end
  end
  table.sort(found, newest_first)
  return found, low
end

-- Asked: user, where to go on, how many to look at, limit.
function verbs.of()
  local found, on = piece_of(ASKED[1], ASKED[2], ASKED[3])
  local out = {now, on}
  for i = 1, math.min(ASKED[4], #found) do out[i + 2] = shown(found[i].id) end
  return out
end

-- Asked: user, where to go on, how many to look at, limit, created_at and id of the one before.
function verbs.page()
  local user, from, most, limit, created, before = unpack(ASKED, 1, 6)
  local found, on = piece_of(user, from, most)
  local out = {now, on, #found}
  for _, each in ipairs(found) do
    if #out - 3 >= limit then break end
    local at = each.m[CREATED]
    if not created or at < created or (at == created and each.id > before) then
      out[#out + 1] = {each.id, call('HGET', key_of_session(each.id), 'm')}
    end
  end
  return out
end

-- Asked: user, where to go on, how many to look at; or false, false, false, ids.
function verbs.held()
  local user, from, most, ids = unpack(ASKED, 1, 4)
  local out = {now, ''}
  if user then
    local found, on = piece_of(user, from, most)
    ids, out[2] = {}, on
    for i, each in ipairs(found) do ids[i] = each.id end
  end
  for _, id in ipairs(ids) do
    local count = #leases_of_session(id)
    if count > 0 then out[#out + 1], out[#out + 2] = id, count end
  end
  return out
end

-- Asked: id, ...
function verbs.gone()
  local out = {}
  for i, id in ipairs(ASKED) do
    local m = read_meta(id)
    local why = m and gone(m)
    out[i] = why and cmsgpack.pack(why) or (m and 1 or '')
  end
  return out
end

-- Asked: user, where to go on, how many to look at, limit, after: in the order of ids.
function verbs.of_by_id()
  local user, from, most, limit, after = unpack(ASKED, 1, 5)
  local found, on = piece_of(user, from, most)
  table.sort(found, function(a, b) return a.id < b.id end)
  local out = {now, on}
  for _, each in ipairs(found) do
    if #out - 2 >= limit then break end
    if each.id > after then out[#out + 1] = shown(each.id) end
  end
  return out
end

-- Asked: after, limit.
function verbs.sessions()
  local after, limit = ASKED[1], ASKED[2]
  local out = {now}
  local from = after == '' and '-' or '(' .. after
  while #out <= limit do
    local ids = call('ZRANGEBYLEX', BASE .. 'i', from, '+', 'LIMIT', 0, limit)
    for _, id in ipairs(ids) do
      if #out <= limit and read_live(id) then out[#out + 1] = shown(id) end
      from = '(' .. id
    end
    if #ids < limit or limit == 0 then break end
  end
  return out
end

if verb == 'load' or verb == 'save' or verb == 'touch' or verb == 'rotate'
  or verb == 'rename' then
  identify()
  if unsettled() then return not_yet() end
end
local answer = verbs[verb]()
flush()
return answer
