-- Which fences of a pool have been given out, and which of them we may have forgotten: see docs/adr/0017.
-- A loss raises the fence of every pool by the same gap (`gap` of the shard's own hash), without a walk
-- over them: a pool's hash has in e how much of it is in its f. What lies between the last fence that we
-- know of and the raised one may have been given out and lost: b holds such ranges, {after, up to, until
-- when their holders may live}, each until then.
local fences = {}
local RANGES_MAX = 8

-- Read them, as they are at this instant.
function fences.read(p)
  if p.fence then return end
  local said = call('HMGET', SELF, 'gap', 'doubt')
  local gap, doubted_until = tonumber(said[1] or 0), tonumber(said[2] or 0)
  p.ranges, p.raise = {}, gap > p.raised
  for _, range in ipairs(p.lost_ranges and cmsgpack.unpack(p.lost_ranges) or {}) do
    if range[3] > now then p.ranges[#p.ranges + 1] = range end
  end
  p.fence = p.written_fence + math.max(0, gap - p.raised)
  if p.raise and doubted_until > now then
    p.ranges[#p.ranges + 1] = {p.written_fence, p.fence, doubted_until}
  end
  if p.raise then p.raised = gap end
  if #p.ranges > RANGES_MAX then -- rather let one in who is owed nothing than turn one away who is
    local first = table.remove(p.ranges, 1)
    p.ranges[1] = {first[1], p.ranges[1][2], math.max(first[3], p.ranges[1][3])}
  end
end

-- Write the last one that was given out, and other fields with it.
function fences.write(p, fence, ...)
  p.fence = fence
  if p.raise or p.lost_ranges then
    call('HSET', p.key, 'f', fence, 'e', p.raised, ...)
    if #p.ranges > 0 then
      call('HSET', p.key, 'b', cmsgpack.pack(p.ranges))
    else
      call('HDEL', p.key, 'b')
    end
  else
    call('HSET', p.key, 'f', fence, ...)
  end
end

-- Was a lease perhaps granted under this fence, and forgotten?
function fences.lost(p, fence)
  if fence > p.fence then return true end
  for _, range in ipairs(p.ranges) do
    if fence > range[1] and fence <= range[2] then return true end
  end
  return false
end

-- Take in up to which fence a ledger knows every grant.
function fences.learn(p, highest)
  fences.read(p)
  for _, range in ipairs(p.ranges) do
    range[1] = math.min(range[2], math.max(range[1], highest))
  end
  if highest > p.fence then
    local till = tonumber(call('HGET', SELF, 'doubt') or 0)
    p.ranges[#p.ranges + 1] = {highest, highest + GAP, till}
    p.fence = highest + GAP
  end
  p.raise = true -- writes all of it
  fences.write(p, p.fence)
end
