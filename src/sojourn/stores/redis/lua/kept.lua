-- Seats that are kept for whom a ledger knows and we do not: see docs/adr/0017. Of a pool <p> k, j and i, see
-- leases.lua. One stands in k and i at once, or is not kept: i alone may be of before.
local kept = {}
do -- a script has room for 200 local names at once

-- Under which fence a ledger knows a lease as held that is not here; nil where it keeps no seat for one.
function kept.fence(p, id)
  local till = call('ZSCORE', p.K, id)
  if not till or tonumber(till) <= now then return nil end
  return tonumber(call('HGET', p.J, id) or 0)
end

function kept.holder_of(user, client) return #user .. ':' .. user .. client end

-- The lease for whose return a holder's seat is kept, and its fence; or nil.
function kept.of_holder(p, holder)
  local id = call('HGET', p.I, holder)
  local fence = id and kept.fence(p, id)
  if fence then return id, fence end
  return nil
end

-- Keep a seat for one. A holder has one lease of a pool.
function kept.keep(p, id, fence, holder, till)
  kept.give_up(p, call('HGET', p.I, holder) or id, fence)
  call('ZADD', p.K, till, id)
  call('HSET', p.J, id, fence)
  call('HSET', p.I, holder, id)
end

function kept.drop(p, id)
  call('ZREM', p.K, id)
  call('HDEL', p.J, id)
end

-- Keep no seat any more for a lease under this fence, or an older one.
function kept.give_up(p, id, fence)
  local known = call('HGET', p.J, id)
  if call('ZSCORE', p.K, id) and tonumber(known or 0) <= fence then kept.drop(p, id) end
end

-- Its holder has come: by its token, or without. Who has another lease now has given that one up.
function kept.came(p, id, holder)
  if id then kept.drop(p, id) end
  local other = call('HGET', p.I, holder)
  if other then
    kept.drop(p, other)
    call('HDEL', p.I, holder)
  end
end

-- Whose lease it is: user and client; nil where a server of before kept the seat.
function kept.holders(p)
  local found, all = {}, call('HGETALL', p.I)
  for i = 1, #all, 2 do
    local length, rest = string.match(all[i], '^(%d+):(.*)$')
    local user = string.sub(rest, 1, tonumber(length))
    found[all[i + 1]] = {user = user, client = string.sub(rest, #user + 1)}
  end
  return found
end

-- Read a pool's: how many seats they are, beside those of the present, and how many of the present are waited for,
-- too; by key, whether it is one of these seats; and rows, as far as they are known, to find their reservations. Of
-- a pool that counts leases only their number is read, as long as it has no reservations: there nobody who is
-- present is waited for.
function kept.read(p)
  local plain = p.count_by == BY_LEASE
  local S = {seats = call('ZCOUNT', p.K, '(' .. now, '+inf'), shared = 0, keys = {}, rows = {}}
  if S.seats == 0 or (plain and #p.reservations == 0) then return S end
  local holders = kept.holders(p)
  S.seats = 0
  if not plain then grouped(p) end
  for _, id in ipairs(call('ZRANGEBYSCORE', p.K, '(' .. now, '+inf')) do
    local h = holders[id]
    local key = h and key_of(p, h.user, h.client) or '\0' .. id -- nobody's key
    if S.keys[key] == nil then
      S.keys[key] = plain or not p.by_key[key]
      local counted = S.keys[key] and 'seats' or 'shared'
      S[counted] = S[counted] + 1
    end
    if h then
      S.rows[#S.rows + 1] = {user = h.user, client = h.client, acquired = now, fence = 0}
    end
  end
  return S
end

end
