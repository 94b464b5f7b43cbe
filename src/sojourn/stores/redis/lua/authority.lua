-- Store.allot, authority, begin_epoch and forget_relay.
local verb
verb, ASKED = ASKED[1], ASKED[2]
local verbs = {}

-- Asked: a beat: see allotments.hear.
function verbs.allot()
  local pulse = last_pulse()
  if stale(pulse) then give_grace(pulse) end -- or seats are given away that are to be given back
  return cmsgpack.pack(allotments.hear(ASKED, now, now < tonumber(call('HGET', SELF, 'doubt') or 0)))
end

-- Asked: {pool, ...} or false, the most pools. Answers: now, epoch, in doubt until, the longest ttl,
-- {name, life, number, epoch, heard at}, ..., {pool, its definition, overdraft, seats in use, closed, rows}, ...
function verbs.authority()
  local names, relays, found = ASKED[1], {}, {}
  if not names then
    names = call('SMEMBERS', BASE .. 'shared')
    table.sort(names)
  end
  local A = allotments.authority()
  for i, name in ipairs(A.names) do
    local k = A.relays[name]
    relays[i] = {name, k.life, k.number, k.epoch, k.heard}
  end
  for i = 1, math.min(#names, ASKED[2]) do
    local p = pool_of(names[i])
    if p.def or p.shared then
      local rows = allotments.rows(allotments.read(p, p.now))
      found[#found + 1] = p.def
        and {p.id, p.capacity, p.overdraft, (count(p)), refusal(p) ~= nil, rows}
        or {p.id, 0, 0, 0, true, rows}
    end
  end
  return cmsgpack.pack({now, A.epoch, A.doubt_until, A.longest, relays, found})
end

-- Asked: actor, text of the event's data.
function verbs.begin_epoch()
  local epoch = allotments.begin_epoch()
  tell(now, 'operator.acted', nil, nil, nil, nil, ASKED[1], {ASKED[2], 'epoch', epoch})
  return string.format('%.0f', epoch)
end

-- Asked: actor, text of the event's data, relay.
function verbs.forget_relay()
  local known = call('HDEL', BASE .. 'relays', ASKED[3]) > 0
  tell(now, 'operator.acted', nil, nil, nil, nil, ASKED[1], {ASKED[2], 'known', known})
  return known and 1 or 0
end

if verb ~= 'authority' then
  identify()
  if verb == 'allot' and unsettled(true) then return not_yet() end
end
local answer = verbs[verb]()
flush()
if verb ~= 'authority' then tick() end
return answer
