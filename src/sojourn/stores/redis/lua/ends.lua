-- Store.release, revoke and drop: leases ended by anybody but an acquire. And Store.doubt, which lets an
-- acquire end them.
local verb
verb, ASKED = ASKED[1], ASKED[2]

-- Asked: {lease id, fence, pool}, ...
local function release()
  local answers = {}
  for i, asked in ipairs(ASKED) do
    local p, row = locate(asked[1], asked[3] or nil)
    answers[i] = 0
    if row and live(p, row) and row.fence == asked[2] then
      tell_end(p, row, RELEASED, nil, now)
      bury(p, row, now, RELEASED)
      answers[i] = 1
    end
  end
  return answers
end

-- Asked: at once, {{lease id, fence, pool, silent for}, ...}
local function doubt_leases()
  local answers = {}
  for i, asked in ipairs(ASKED[2]) do
    local p, row = locate(asked[1], asked[3] or nil)
    answers[i] = 0
    if row and p.def and live(p, row) and row.fence == asked[2] and p.now - row.beat >= asked[4] then
      call('HDEL', p.G, 'f')
      row.suspect = math.min(row.suspect, ASKED[1] and p.now - p.linger or p.now)
      write_row(p, p.L, row)
      note_odd(p, row.expires - row.suspect, row.expires - row.beat, row.expires)
      answers[i] = 1
    end
  end
  return answers
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
local answer = ({release = release, doubt = doubt_leases, ask = ask, revoke = revoke, drop = drop})[verb]()
flush()
tick()
return answer
