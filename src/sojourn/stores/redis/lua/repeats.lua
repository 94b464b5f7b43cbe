-- Requests that come twice: see idempotency.py. A key is {digest, fingerprint, note}, or nothing. Of each:
--   q:<n> hash    <digest>: {fingerprint, now, note, kind, ...}, what was answered first in the n-th span
-- of `KEPT`. Of the shard's own hash: answers: the latest n. What this and the span before hold is
-- looked at; what is older goes when a new span begins, by the time that is judged here: the server's own
-- clock may be set ahead, and would forget what was promised.
local repeats = {KEPT = 600000}

function repeats.of(span) return BASE .. 'q:' .. string.format('%.0f', span) end

-- Return what was answered first under a key: nil: nothing yet; false: it was another request's.
function repeats.first(key)
  local span = math.floor(now / repeats.KEPT)
  local raw = call('HGET', repeats.of(span), key[1]) or call('HGET', repeats.of(span - 1), key[1])
  if not raw then return nil end
  local kept = cmsgpack.unpack(raw)
  if kept[2] <= now - repeats.KEPT then return nil end
  return kept[1] == key[2] and kept
end

function repeats.keep(key, kind, ...)
  local span = math.floor(now / repeats.KEPT)
  local name, latest = repeats.of(span), tonumber(call('HGET', SELF, 'answers') or 0)
  call('HSET', name, key[1], cmsgpack.pack({key[2], now, key[3], kind, ...}))
  if span <= latest then return end
  call('HSET', SELF, 'answers', span)
  call('PEXPIRE', name, 2 * repeats.KEPT + SET_AHEAD)
  for old = latest - 1, math.min(latest, span - 2) do call('UNLINK', repeats.of(old)) end
end
