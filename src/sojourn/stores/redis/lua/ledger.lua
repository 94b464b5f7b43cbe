-- What carries the stream into a ledger asks this: see service/recorder.py.
local verb
verb, ASKED = ASKED[1], ASKED[2]
local verbs = {}

-- Give events that a ledger does not know numbers that it has not given yet.
local function renumber(by)
  local entries = call('XRANGE', BASE .. 'ev', '-', '+')
  for i = #entries, 1, -1 do call('XDEL', BASE .. 'ev', entries[i][1]) end
  call('DEL', BASE .. 'ev')
  for _, entry in ipairs(entries) do
    local number = tonumber(string.match(entry[1], '^%d+')) + by
    call('XADD', BASE .. 'ev', number .. '-0', 'e', entry[2][2])
  end
  local last = call('HINCRBY', SELF, 'events', by)
  if call('HEXISTS', SELF, 'indexed') == 1 then call('HSET', SELF, 'indexed', last + 1) end
end

-- Asked: the ledger's name, the last event it has, a name for this store if it has none yet.
-- Answers: the store's name, its last event, its epoch, until when it is in doubt, the last event before
-- what it may have lost, whether that is made good.
function verbs.attach()
  local name, mark, fresh = ASKED[1], ASKED[2], ASKED[3]
  identify()
  local known = call('HGET', SELF, 'ledger')
  local last = tonumber(call('HGET', SELF, 'events') or 0)
  if known ~= name then
    call('HSET', SELF, 'ledger', name, 'store', fresh)
    if mark > 0 then -- what the ledger knows of is not here
      renumber(mark + GAP)
      doubt(0, mark + GAP) -- no pool has given out more fences than there were events
    end
  elseif last < mark then
    local gap = mark - last + GAP
    call('HINCRBY', SELF, 'events', gap)
    doubt(last, gap)
  end
  flush()
  tick()
  local said = call('HMGET', SELF, 'store', 'events', 'epoch', 'doubt', 'intact', 'settled')
  local epoch = tonumber(said[3] or 0)
  return {said[1], tonumber(said[2] or 0), epoch, tonumber(said[4] or 0), tonumber(said[5] or 0),
    tonumber(said[6] or 0) >= epoch and 1 or 0}
end

-- Asked: the last event that the ledger has. Only what it has may be forgotten.
function verbs.recorded()
  call('HSET', SELF, 'recorded', ASKED[1])
  return 1
end

-- Asked: {pool, lost_after, the highest fence that the ledger has, {lease, fence, user, client, ...}}, ... Those
-- of these leases that have fallen back behind that fence are given it; for those that are not here seats are
-- kept, unless their holders have another since.
function verbs.hold()
  local count = 0
  heal()
  local doubted_until = tonumber(call('HGET', SELF, 'doubt') or 0)
  local noticed = math.min(now, tonumber(call('HGET', SELF, 'noticed') or now)) -- nobody has lived on since
  for _, asked in ipairs(ASKED) do
    local p = pool_of(asked[1])
    local till, leases, count_before = math.max(doubted_until, noticed + asked[2]), asked[4], count
    fences.learn(p, asked[3])
    for i = 1, #leases, 4 do
      local id, fence, user, client = unpack(leases, i, i + 3)
      local row = find(p, id)
      local other = find_holder(p, user, client)
      if row and row.fence < fence and live(p, row) then
        row.fence = fence
        write_row(p, p.L, row)
        kept.give_up(p, id, fence)
      elseif row and row.fence >= fence then
        kept.give_up(p, id, fence)
      elseif other and other.fence > fence then
        kept.give_up(p, id, fence)
      elseif doubted_until > now then
        kept.keep(p, id, fence, kept.holder_of(user, client), till)
        count = count + 1
      end
    end
    if count > count_before then
      due(p, till)
      for _, key in ipairs({p.K, p.J, p.I}) do -- an end, where it is used up it is gone before
        call('PEXPIRE', key, till - now + SET_AHEAD)
      end
      call('HSET', SELF, 'doubt', math.max(till, tonumber(call('HGET', SELF, 'doubt'))))
    end
  end
  flush()
  tick()
  return count
end

-- Asked: actor, text of an event's data, {pool, lease, fence, reason}, ... End those of them that live under
-- that fence, or an earlier one.
function verbs.end_again()
  local ended = 0
  for i = 3, #ASKED do
    local id, fence, why = ASKED[i][2], ASKED[i][3], ASKED[i][4]
    local p = pool_of(ASKED[i][1])
    local row = find(p, id)
    kept.give_up(p, id, fence)
    if row and live(p, row) and row.fence <= fence then
      local reason = REVOKED
      for number, name in ipairs(REASONS) do
        if name == why then reason = number end
      end
      tell_end(p, row, reason, ASKED[1], now)
      bury(p, row, now, reason)
      ended = ended + 1
    end
  end
  if ended > 0 then
    tell(now, 'operator.acted', nil, nil, nil, nil, ASKED[1], {ASKED[2], 'ended', ended})
  end
  flush()
  tick()
  return ended
end

-- Asked: actor, {pool, lease, fence}, ... Where one is not here, or has fallen back behind that fence, its
-- seat is free, or it is given its fence.
function verbs.note_lost()
  local noted = 0
  for i = 2, #ASKED do
    local p, id, fence = pool_of(ASKED[i][1]), ASKED[i][2], ASKED[i][3]
    local row = find(p, id)
    if row and row.fence < fence and live(p, row) then
      row.fence = fence
      write_row(p, p.L, row)
      fences.learn(p, fence)
      noted = noted + 1
    elseif not row or row.fence < fence then
      tell(now, 'lease.expired', p.id, id, nil, nil, ASKED[1],
        {reason = 'expired', fence = fence, lost = true})
      kept.give_up(p, id, fence)
      noted = noted + 1
    end
  end
  flush()
  tick()
  return noted
end

-- Asked: the epoch of which the ledger has told all that it knows.
function verbs.settle()
  if ASKED[1] == tonumber(call('HGET', SELF, 'epoch') or 0) then
    call('HSET', SELF, 'settled', ASKED[1])
  end
  return 1
end

return verbs[verb]()
