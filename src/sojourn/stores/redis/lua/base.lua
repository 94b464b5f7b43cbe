-- What every script begins with: the clock, the arguments, the stream of events.
-- KEYS[1]: the shard's own hash; all other keys of the shard have its prefix, and so its slot.
-- ARGV: now ('' = this server's clock), max_pause, the arguments as msgpack.
local SELF = KEYS[1]
local BASE = string.sub(SELF, 1, -2)
local call = redis.call
local NOW = ARGV[1]
local MAX_PAUSE = tonumber(ARGV[2])
local ASKED = cmsgpack.unpack(ARGV[3])
local CLOCKED = NOW ~= ''

local now
if CLOCKED then
  now = tonumber(NOW)
else
  local time = call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
  local seen = tonumber(call('HGET', SELF, 'now') or 0)
  if now < seen then now = seen end -- a clock that was set back revives nothing
end

-- Whatever writes notes the instant at which it did: no later call decides at an earlier one.
local function tick()
  if not CLOCKED then call('HSET', SELF, 'now', now) end
end

local pending = {}
local identify

local function starts(text, with) return text and string.sub(text, 1, #with) == with end

local function tell(at, kind, pool, subject, user, client, actor, data)
  -- See event.of_canary.
  if pool and starts(pool, 'sojourn.doctor:') or not pool and starts(user, 'sojourn:doctor:') then
    return
  end
  pending[#pending + 1] = cmsgpack.pack({at, kind, pool or false, subject or false, user or false,
    client or false, actor or false, data or false})
end

-- Give the events their numbers, without a gap, in the step that made them.
local function flush()
  if #pending == 0 then return end
  identify() -- may tell, too
  local count = #pending
  local first = call('HINCRBY', SELF, 'events', count) - count
  for i = 1, count do
    call('XADD', BASE .. 'ev', (first + i) .. '-0', 'e', pending[i])
  end
  pending = {}
end
