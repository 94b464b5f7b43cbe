local IDLE_SOON = 1000 -- ms: as long as a pool is taken for full, see fullness.lua

-- Store.renew, the hottest of all. Asked: {{lease id, fence, idle_for, next_in, closing, pool}, ...}.
local function renew(asked)
  local p, raw
  if asked[6] then
    p = pool_of(asked[6])
    raw = row_of(p, p.L, asked[1])
  else
    local row
    p, row = locate(asked[1])
    raw = row and row.raw
  end
  if not raw then return 0 end
  local kind, fence, acquired, beat, suspect, expires, idle, graced, rest = read_head(raw)
  local at = p.now
  if fence ~= asked[2] or expires <= at or not p.def then return 0 end
  if p.refused == nil then p.refused = refusal(p) or false end
  if p.refused then return 0 end
  local row = {acquired = acquired, suspect = suspect, expires = expires}
  local before = expires
  suspect, expires = beat_times(p, row, asked[4] or nil, asked[5], at)
  if beat < at then beat = at end
  if asked[3] then
    idle = at - asked[3]
    if p.when_full == EVICT_IDLE and p.idle_after and idle + p.idle_after < at + IDLE_SOON then call('HDEL', p.G, 'f') end
  end
  call('HSET', place_of(p, p.L, asked[1]), asked[1],
    head_of(math.floor(kind / 4), fence, acquired, beat, suspect, expires, idle, graced)
      .. string.sub(raw, rest))
  if expires ~= before then
    call('ZADD', p.Z, expires, asked[1])
    if expires < before then due(p, expires) end
  end
  note_odd(p, expires - suspect, expires - beat, expires)
  local state = suspect <= at and (expires <= at and 3 or 2) or 1
  return (expires - at) * 4 + state
end

identify()
if unsettled() then return not_yet() end
local answers, missed = {}, false
for i, asked in ipairs(ASKED) do
  answers[i] = renew(asked)
  missed = missed or answers[i] == 0
end
if missed and heal() then
  for i, asked in ipairs(ASKED) do
    if answers[i] == 0 then answers[i] = renew(asked) end
  end
end
flush()
tick()
return answers
