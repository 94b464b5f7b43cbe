-- Requests that come twice: see idempotency.py. A key is {digest, fingerprint, note}, or nothing. Of each:
--   q:<digest> hash    a: {fingerprint, now, note, kind, ...}, what was answered first
-- It is gone after ANSWERS_KEPT; under a clock that tests move, it is taken to be.
local ANSWERS_KEPT = 600000

-- Return what was answered first under a key: nil: nothing yet; false: it was another request's.
local function first_answer(key)
  local raw = call('HGET', BASE .. 'q:' .. key[1], 'a')
  if not raw then return nil end
  local kept = cmsgpack.unpack(raw)
  if kept[2] <= now - ANSWERS_KEPT then return nil end
  return kept[1] == key[2] and kept
end

local function keep_answer(key, kind, ...)
  local name = BASE .. 'q:' .. key[1]
  call('HSET', name, 'a', cmsgpack.pack({key[2], now, key[3], kind, ...}))
  call('PEXPIRE', name, ANSWERS_KEPT)
end
