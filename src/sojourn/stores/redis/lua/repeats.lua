-- Requests that come twice: see idempotency.py. A key is {digest, fingerprint, note}, or nothing. Of each:
--   q:<n> hash    <digest>: {fingerprint, now, note, kind, ...}, what was answered first in the n-th `SPAN`
-- Of the shard's own hash: answers: the latest n. What is older than `KEPT` goes when a new span begins, by
-- the time that is judged here: the server's own clock may be set ahead, and would forget what was promised.
local repeats = {KEPT = 600000, SPAN = 120000}

function repeats.of(span) return BASE .. 'q:' .. string.format('%.0f', span) end

-- Return what was answered first under a key: nil: nothing yet; false: it was another request's.
function repeats.first(key)
  local last = math.floor(now / repeats.SPAN)
  for span = last, last - repeats.KEPT / repeats.SPAN, -1 do
    local raw = call('HGET', repeats.of(span), key[1])
    local kept = raw and cmsgpack.unpack(raw)
    if kept and kept[2] > now - repeats.KEPT then return kept[1] == key[2] and kept end
  end
  return nil
end

function repeats.keep(key, kind, ...)
  local span, behind = math.floor(now / repeats.SPAN), repeats.KEPT / repeats.SPAN
  local name, latest = repeats.of(span), tonumber(call('HGET', SELF, 'answers') or 0)
  call('HSET', name, key[1], cmsgpack.pack({key[2], now, key[3], kind, ...}))
  if span <= latest then return end
  call('HSET', SELF, 'answers', span)
  call('PEXPIRE', name, repeats.KEPT + repeats.SPAN + SET_AHEAD)
  for old = latest - behind, math.min(latest, span - behind - 1) do call('DEL', repeats.of(old)) end
end
