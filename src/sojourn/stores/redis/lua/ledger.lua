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
  call('HINCRBY', SELF, 'events', by)
end

-- Asked: the ledger's name, the last event it has, a name for this store if it has none yet.
-- Answers: the store's name, its last event, its epoch, until when it is in doubt.
function verbs.attach()
  local name, mark, fresh = ASKED[1], ASKED[2], ASKED[3]
  identify()
  local known = call('HGET', SELF, 'ledger')
  local last = tonumber(call('HGET', SELF, 'events') or 0)
  if known ~= name then
    if mark > 0 then renumber(mark) end
    call('HSET', SELF, 'ledger', name, 'store', fresh)
    if mark > 0 then doubt() end -- what the ledger knows of is not here
  elseif last < mark then
    call('HSET', SELF, 'events', mark)
  end
  flush()
  tick()
  local said = call('HMGET', SELF, 'store', 'events', 'epoch', 'doubt')
  return {said[1], tonumber(said[2] or 0), tonumber(said[3] or 0), tonumber(said[4] or 0)}
end

-- Asked: the last event that the ledger has. Only what it has may be forgotten.
function verbs.recorded()
  call('HSET', SELF, 'recorded', ASKED[1])
  return 1
end

-- Asked: {pool, lost_after, {lease, ...}}, ... Keep seats for those of these leases that are not here.
function verbs.hold()
  local kept = 0
  local doubted_until = tonumber(call('HGET', SELF, 'doubt') or 0)
  if doubted_until <= now then return 0 end
  for _, asked in ipairs(ASKED) do
    local p = pool_of(asked[1])
    local till = math.max(doubted_until, now + asked[2])
    for _, id in ipairs(asked[3]) do
      if not find(p, id) then
        call('ZADD', p.K, till, id)
        kept = kept + 1
      end
    end
    call('PEXPIRE', p.K, till - now + 60000) -- an end, where it is used up it is gone before
    call('HSET', SELF, 'doubt', math.max(till, tonumber(call('HGET', SELF, 'doubt'))))
  end
  tick()
  return kept
end

-- Asked: actor, {{pool, lease}, ...}.
function verbs.note_lost()
  local noted = 0
  for _, each in ipairs(ASKED[2]) do
    local p = pool_of(each[1])
    if not find(p, each[2]) then
      tell(now, 'lease.expired', p.id, each[2], nil, nil, ASKED[1], {reason = 'expired', lost = true})
      call('ZREM', p.K, each[2])
      noted = noted + 1
    end
  end
  flush()
  tick()
  return noted
end

return verbs[verb]()
