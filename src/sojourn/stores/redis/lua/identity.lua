-- Which server this is. A server that was restarted, or a replica that took over, may lack what was
-- answered last; so may one that was emptied. Whatever writes events finds that out in its own step.
-- Of the shard's own hash: run: the server's run_id; layout: how keys and rows are; epoch: how many
-- servers that makes; doubt: until when holders may come back whom we do not know; lost: the longest
-- lost_after of any pool. And of what may have been lost: gap: by how much every pool's fence is higher
-- than it was, all losses together; intact: the last event before it; noticed: when it was seen;
-- settled: the epoch of which a ledger has told what it knows.
local LAYOUT = 2 -- health.py refuses what has another
local LOST_AFTER = 90000
local GAP = 1000000 -- ids of events, and fences of each pool, that were given out and lost
local GAP_PER_MS = 10 -- and for each ms since anything was decided here: more is never given out
local LEDGER_WAIT = 3000 -- ms for which a ledger is waited for
local identified = false

-- From now on, for as long as a holder that we do not know may live. No number given out after the event
-- `intact` is given out again.
local function doubt(intact, gap)
  local said = call('HMGET', SELF, 'lost', 'epoch', 'settled', 'intact')
  local longest, epoch = tonumber(said[1] or LOST_AFTER), tonumber(said[2] or 0)
  if said[4] and tonumber(said[3] or 0) < epoch then -- the loss before is not made good yet
    intact = math.min(intact, tonumber(said[4]))
  end
  call('HSET', SELF, 'epoch', epoch + 1, 'doubt', now + longest, 'intact', intact, 'noticed', now)
  call('HINCRBY', SELF, 'gap', gap)
  local ttl, known = tonumber(call('HGET', SELF, 'rl') or 0), call('HMGET', SELF, 're', 'rd')
  if ttl > 0 then -- relays may hold what is not known: see allotments.lua
    local begun, till = math.max(tonumber(known[1] or 1) + 1, now), math.max(tonumber(known[2] or 0), now + ttl)
    call('HSET', SELF, 're', begun, 'rd', till)
    tell(now, 'authority.restored', nil, nil, nil, nil, nil, {epoch = begun, doubtFor = till - now})
  end
  tell(now, 'store.replaced', nil, nil, nil, nil, nil, {epoch = epoch + 1, doubtFor = longest})
end

identify = function()
  if identified then return end
  identified = true
  local run = string.match(call('INFO', 'server'), 'run_id:(%x+)')
  local known = call('HGET', SELF, 'run')
  if known == run then return end
  call('HSET', SELF, 'run', run, 'layout', LAYOUT)
  if known then
    local gap = GAP + GAP_PER_MS * (seen > 0 and now - seen or 0)
    local intact = call('HINCRBY', SELF, 'events', gap) - gap
    doubt(intact, gap)
  end
end

-- Is a ledger still to tell what this server may have lost? Until then nothing is decided that hangs on
-- it; but not for long, since the ledger may be away. Ask after `identify`.
-- `grants`: nor is a seat given while a ledger that the caller has attached is not known here. All was lost, and
-- fences would begin anew; and without their ledger there are no pools to give seats of.
local function unsettled(grants)
  if grants and (ARGV[5] or '') ~= '' and call('HEXISTS', SELF, 'ledger') == 0 then return true end
  local said = call('HMGET', SELF, 'ledger', 'epoch', 'settled', 'noticed')
  return said[1] and said[4] and tonumber(said[2]) > tonumber(said[3] or 0)
    and now < tonumber(said[4]) + LEDGER_WAIT
end

local function not_yet()
  flush()
  tick()
  return redis.error_reply('SETTLING a ledger is asked first')
end
