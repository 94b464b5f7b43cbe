-- What every script begins with: the clock, the arguments, the stream of events.
-- KEYS[1]: the shard's own hash; all other keys of the shard have its prefix, and so its slot.
-- ARGV: now ('' = this server's clock), max_pause, the arguments as msgpack, what the caller takes the
-- store's now to be by a clock that nobody sets ('' = it cannot say), the ledger that it has attached ('' = none).
local SELF = KEYS[1]
local BASE = string.sub(SELF, 1, -2)
local call = redis.call
local NOW = ARGV[1]
local MAX_PAUSE = tonumber(ARGV[2])
local ASKED = cmsgpack.unpack(ARGV[3])
local CLOCKED = NOW ~= ''
-- ms by which a key outlives what is in it: the server forgets keys by its clock, which may be set ahead.
local SET_AHEAD = 172800000

-- Of the shard's own hash: now: the latest instant that anything was decided at; shift: how far the
-- store's time is ahead of this server's clock, since that was set. See docs/adr/0021.
local now, seen, shift, reset = tonumber(NOW), 0, 0, false
if not CLOCKED then
  local STEP = 1000 -- ms: a clock that lies back by less is waited for
  local JUMP = 5000 -- ms that a clock is ahead of what a caller expects, when it was set
  local time, expected = call('TIME'), tonumber(ARGV[4])
  time = time[1] * 1000 + math.floor(time[2] / 1000)
  local known = call('HMGET', SELF, 'now', 'shift')
  seen, shift = tonumber(known[1] or 0), tonumber(known[2] or 0)
  local before = shift
  now = time + shift
  if now < seen then -- it was set back: time goes on from where it was
    if seen - now > STEP then
      now = math.max(seen, expected or 0)
      shift = now - time
    else
      now = seen
    end
  elseif seen > 0 and now - seen > MAX_PAUSE then -- it was set ahead, or we were away
    if expected and now - expected > JUMP then
      shift = math.max(seen, expected) - time
    elseif shift ~= 0 and time >= seen and not (expected and time - expected > JUMP) then
      shift = 0 -- it was put right again
    end
    if math.abs(shift) < STEP and time >= seen then shift = 0 end
    now = time + shift
  end
  reset = shift ~= before
end

-- Whatever writes notes the instant at which it did: no later call decides at an earlier one.
local function tick()
  if CLOCKED then return end
  if reset then call('HSET', SELF, 'now', now, 'shift', shift) else call('HSET', SELF, 'now', now) end
end

local pending = {}
local identify
local DENIED = 'lease.denied'
local INDEXED_MAX = 100 -- denials of a pool, and of a user, that are found without a search

local function starts(text, with) return text and string.sub(text, 1, #with) == with end

-- See event.OWN_LICENSES.
local function our_own(pool) return starts(pool, 'sojourn.doctor:') or starts(pool, 'sojourn.sweeps:') end

local function tell(at, kind, pool, subject, user, client, actor, data)
  -- See event.of_canary.
  if our_own(pool) or not pool and starts(user, 'sojourn:doctor:') then
    return
  end
  local packed = cmsgpack.pack({at, kind, pool or false, subject or false, user or false,
    client or false, actor or false, data or false})
  pending[#pending + 1] = {packed, kind == DENIED and pool, kind == DENIED and user}
end

-- Note the latest denials of a pool and of a user by their ids. Of the shard's own hash: indexed: the
-- first event from which on they are; kept: for how long events are remembered. A list that is not added
-- to is gone when its events are.
local function index_for(key)
  local till = tonumber(call('HGET', SELF, 'kept') or 2592000000)
  call('PEXPIRE', key, math.max(till, 0) + SET_AHEAD)
end

local function index(first)
  local ids = {}
  for i = #pending, 1, -1 do
    for k = 2, 3 do
      if pending[i][k] then
        local key = BASE .. (k == 2 and 'dp:' or 'du:') .. pending[i][k]
        ids[key] = ids[key] or {}
        if #ids[key] < 2 * INDEXED_MAX then
          table.insert(ids[key], first + i)
          table.insert(ids[key], first + i)
        end
      end
    end
  end
  if next(ids) == nil then return end
  call('HSETNX', SELF, 'indexed', first + 1)
  for key, added in pairs(ids) do
    call('ZREMRANGEBYRANK', key, 0, #added / 2 - INDEXED_MAX - 1) -- first: Redis keeps a short list small
    call('ZADD', key, unpack(added))
    index_for(key)
  end
end

-- Give the events their numbers, without a gap, in the step that made them.
local function flush()
  if #pending == 0 then return end
  identify() -- may tell, too
  local count = #pending
  local first = call('HINCRBY', SELF, 'events', count) - count
  for i = 1, count do
    call('XADD', BASE .. 'ev', (first + i) .. '-0', 'e', pending[i][1])
  end
  if first == 0 then call('HSET', SELF, 'indexed', 1) end
  index(first)
  pending = {}
end
