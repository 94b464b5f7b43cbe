-- Store.define, pools, usage and pulse; and what a store says of its clock.
local verb
verb, ASKED = ASKED[1], ASKED[2]
local verbs = {}

-- Asked: {pool, definition, buckets}, ...
function verbs.define()
  for _, asked in ipairs(ASKED) do
    local p = pool_of(asked[1])
    local last = call('ZREVRANGE', p.Z, 0, 0, 'WITHSCORES')
    local gap, span
    if p.def then gap, span = gap_of(p), span_of(p) end
    call('SADD', BASE .. 'pools', p.id)
    local packed = cmsgpack.pack(asked[2])
    local longest = tonumber(call('HGET', SELF, 'lost') or 0)
    if asked[2][3] > longest then call('HSET', SELF, 'lost', asked[2][3]) end
    call('HSET', p.key, 'd', packed)
    define(p, packed)
    if #last == 0 and call('EXISTS', p.Y) == 0 then
      p.buckets = asked[3]
      call('HSET', p.key, 'n', p.buckets)
    elseif last[2] and gap then
      note_odd(p, gap, span, tonumber(last[2])) -- leases there are as the old policy had them
    end
  end
  return 1
end

-- Asked: pool, ...
function verbs.pools()
  local found = {}
  for i, id in ipairs(ASKED) do found[i] = call('HGET', BASE .. 'p:' .. id, 'd') end
  return found
end

function verbs.usage()
  local found = {}
  for i, id in ipairs(ASKED) do
    local p = pool_of(id)
    if p.def then
      local used, suspect = count(p)
      found[i] = {p.capacity, used, suspect, live_count(p), p.now}
    else
      found[i] = false
    end
  end
  return found
end

function verbs.pulse()
  identify()
  local pulse = last_pulse()
  local lasted, extended
  if stale(pulse) then lasted, extended = give_grace(pulse) end
  call('HSET', SELF, 'pulse', now)
  return lasted and {now, shift, lasted, extended} or {now, shift}
end

-- Answers: the store's now, and how far that is ahead of this server's clock.
function verbs.now() return {now, shift} end

local answer = verbs[verb]()
flush()
if verb == 'define' or verb == 'pulse' then tick() end
return answer
