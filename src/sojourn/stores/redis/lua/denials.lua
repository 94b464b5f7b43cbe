-- Store.events, of the latest denials. Asked: pool or false, user or false (of both: the user's, of every
-- pool), the event before which, or 0, how many at most. Answers: the event before which the rest must be
-- searched for, then ids and events, the latest first.
local pool, user, before, limit = ASKED[1], ASKED[2], ASKED[3], ASKED[4]
local key = user and BASE .. 'du:' .. user or BASE .. 'dp:' .. pool
local from = call('HGET', SELF, 'indexed')
if not from then return {before} end
local on = from
if call('ZCARD', key) >= INDEXED_MAX then on = call('ZRANGE', key, 0, 0)[1] end
if tonumber(on) < tonumber(from) then on = from end
if before > 0 and tonumber(on) > before then on = before end
local out = {tonumber(on)}
for _, id in ipairs(call('ZREVRANGEBYSCORE', key, before > 0 and '(' .. before or '+inf', on,
  'LIMIT', 0, limit)) do
  local entry = call('XRANGE', BASE .. 'ev', id .. '-0', id .. '-0')[1]
  if entry then out[#out + 1], out[#out + 2] = entry[1], entry[2][2] end
end
return out
