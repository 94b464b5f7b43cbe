-- How many bytes a lease and a session take here, by a sample: of no more pools and sessions than asked.
-- Asked: pools and sessions to look at. Answers: bytes of a lease, bytes of a session; 0 where there are none.
local LEASES, ELEMENTS = 4, 20 -- to look at in each pool; in each key that is no block

local function bytes(key) return call('MEMORY', 'USAGE', key, 'SAMPLES', ELEMENTS) or 0 end

-- What an entry of a key takes, by what the key takes.
local function each_of(key, count)
  local entries = call(count, key)
  return entries > 0 and bytes(key) / entries or 0
end

local function lease_in(p)
  local ids = call('ZRANDMEMBER', p.Z, LEASES)
  local sum, seen = 0, 0
  for _, row in ipairs(rows_of(p, ids)) do
    seen = seen + 1
    sum = sum + each_of(place_of(p, p.L, row.id), 'HLEN') + each_of(bucket(p, digest(row.user)), 'HLEN')
  end
  return seen > 0 and each_of(p.Z, 'ZCARD') + sum / seen or 0
end

local function lease()
  local sum, leases = 0, 0
  for _, id in ipairs(call('SRANDMEMBER', BASE .. 'pools', ASKED[1])) do
    local p = pool_of(id)
    local count = call('ZCARD', p.Z)
    if count > 0 then sum, leases = sum + count * lease_in(p), leases + count end
  end
  return leases > 0 and sum / leases or 0
end

local function session()
  local ids = call('ZRANDMEMBER', BASE .. 'i', ASKED[2])
  local sum = 0
  for _, id in ipairs(ids) do
    local m = read_meta(id)
    sum = sum + bytes(key_of_session(id))
    if m and m[USER] then sum = sum + each_of(BASE .. 'u:' .. m[USER], 'ZCARD') end
  end
  if #ids == 0 then return 0 end
  return sum / #ids + each_of(BASE .. 'tok', 'HLEN') + each_of(BASE .. 'i', 'ZCARD')
    + each_of(BASE .. 'd', 'ZCARD')
end

return {math.floor(lease()), math.floor(session())}
