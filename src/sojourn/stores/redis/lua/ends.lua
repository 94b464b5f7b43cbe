-- Store.release, revoke and drop: leases ended by anybody but an acquire. And Store.doubt, which lets an
-- acquire end them.
local verb
verb, ASKED = ASKED[1], ASKED[2]

-- Do something to leases. Those that are over once more after an outage that nobody has noticed yet: they are
-- owed time, and would come back.
local function healed(named, done)
  local answers, missed = {}, false
  for i, asked in ipairs(named) do
    answers[i] = done(asked)
    missed = missed or answers[i] == 0
  end
  if missed and heal() then
    for i, asked in ipairs(named) do
      if answers[i] == 0 then answers[i] = done(asked) end
    end
  end
  return answers
end

-- Asked: {lease id, fence, pool}, ...
local function release()
  return healed(ASKED, function(asked)
    local p, row = locate(asked[1], asked[3] or nil)
    if not (row and live(p, row) and row.fence == asked[2]) then return 0 end
    tell_end(p, row, RELEASED, nil, now)
    bury(p, row, now, RELEASED)
    return 1
  end)
end

-- Asked: at once, {{lease id, fence, pool, silent for}, ...}
local function doubt_leases()
  local at_once = ASKED[1]
  return healed(ASKED[2], function(asked)
    local p, row = locate(asked[1], asked[3] or nil)
    if not (row and p.def and live(p, row)) then return 0 end
    if row.fence ~= asked[2] or p.now - row.beat < asked[4] then return 0 end
    call('HDEL', p.G, 'f')
    row.suspect = math.min(row.suspect, at_once and p.now - p.linger or p.now)
    write_row(p, p.L, row)
    note_odd(p, row.expires - row.suspect, row.expires - row.beat, row.expires)
    return 1
  end)
end

-- Asked: pool, actor, data.
local function ask()
  tell(now, 'lease.asked', ASKED[1], nil, nil, nil, ASKED[2] or nil, ASKED[3] or nil)
  return 0
end

-- Asked: actor, text of the event's data, its user, only suspects, session, {{pool, lease id}, ...},
-- silent since.
local function revoke()
  local actor, data, user, suspects_only, session = unpack(ASKED, 1, 5)
  local found, silent_since = {}, ASKED[7]
  for _, named in ipairs(ASKED[6]) do
    local p, row = locate(named[2], named[1])
    local wanted = row and live(p, row) and (not session or row.session == session)
    wanted = wanted and not (silent_since and row.beat > silent_since)
    if wanted and not (suspects_only and row.suspect > p.now) then
      tell_end(p, row, REVOKED, actor, now)
      bury(p, row, now, REVOKED)
      found[#found + 1] = row.id
      found[#found + 1] = row.pool
      found[#found + 1] = row.raw
    end
  end
  tell(now, 'operator.acted', nil, nil, user, nil, actor, {data, 'ended', #found / 3})
  return found
end

-- Asked: actor, text of the event's data, {pool, ...}.
local function drop()
  local ended = 0
  for _, id in ipairs(ASKED[3]) do
    local p = pool_of(id)
    if p.def then
      local rows = rows_between(p, '(' .. p.now, '+inf')
      table.sort(rows, function(a, b) return a.id < b.id end)
      for _, row in ipairs(rows) do
        tell_end(p, row, REVOKED, ASKED[1], now)
        bury(p, row, now, REVOKED)
        ended = ended + 1
      end
      call('HDEL', p.key, 'd') -- the fence stays, so that it only ever grows
      p.def = nil
    end
  end
  tell(now, 'operator.acted', nil, nil, nil, nil, ASKED[1], {ASKED[2], 'ended', ended})
  return ended
end

identify()
if (verb == 'release' or verb == 'doubt') and unsettled() then return not_yet() end
if verb == 'drop' or verb == 'heal' then heal() end -- or a lease that is owed time would come back
local verbs = {release = release, doubt = doubt_leases, ask = ask, revoke = revoke, drop = drop}
local answer = verb == 'heal' and 0 or verbs[verb]()
flush()
tick()
return answer
