"""What Redis does in one step, beside connect-redis. JSON is never read in Lua: cjson would change it.

Keys, below `sojourn:express:` and connect-redis's own prefix:

    m:<id>     hash: what Express has no place for; its `sid` leads from a public id to Express's key
    t:<id>     hash: a tombstone, for a day
    u:<user>   sorted set: ids of a user's sessions, by when we first saw them
    guard      sorted set: sids that ended minutes ago, by when to look next whether they came back

A script names its keys itself, so this is for one Redis, with replicas or not, and not for a cluster.
"""

from __future__ import annotations

GUARD_FOR = 600_000
"""ms for which an ended session's key is looked after: longer than requests last."""
GUARD_FIRST = 250
GUARDED = 50
"""Keys that are looked after in one call at most."""
TOMBSTONE_TTL = 86_400_000
KEPT = 400 * 86_400_000
"""ms that a user's index outlives its last change: longer than any session lives."""
INDEXED = 1_000
"""Sessions of a user in the index at most, the newest; what expired by itself stays there until a list."""
SLACK = 7 * 86_400_000
"""ms for which we know of a session after its lifetime, should Express go on using it."""

PRELUDE = f"""
local given, base, prefix = ARGV[1], ARGV[2], ARGV[3]
local t = redis.call('TIME')
local now = given ~= '' and tonumber(given) or t[1] * 1000 + math.floor(t[2] / 1000)
local function num(n) return string.format('%.0f', n) end
local function finish(id, reason, actor, heir, till)
  local meta = redis.call('HMGET', base .. 'm:' .. id, 'sid', 'user')
  local sid = meta[1]
  if not sid then return false end
  local gone = redis.call('DEL', prefix .. sid)
  redis.call('DEL', base .. 'm:' .. id)
  if meta[2] then redis.call('ZREM', base .. 'u:' .. meta[2], id) end
  if gone == 0 then return false end
  local tomb = base .. 't:' .. id
  redis.call('HSET', tomb, 'at', num(now), 'reason', reason, 'by', actor)
  if heir then redis.call('HSET', tomb, 'heir', heir, 'till', num(till)) end
  redis.call('PEXPIRE', tomb, {TOMBSTONE_TTL})
  redis.call('ZADD', base .. 'guard', num(now + {GUARD_FIRST}), num(now) .. ':' .. sid)
  return true
end
local FACTS = {{'sid', 'user', 'created_at', 'authenticated_at', 'expires_at', 'level', 'device',
  'impersonator', 'label', 'label_user', 'last_device'}}
local function index(user, id)
  local key = base .. 'u:' .. user
  redis.call('ZADD', key, 'NX', num(now), id)
  redis.call('ZREMRANGEBYRANK', key, 0, -{INDEXED} - 1)
  redis.call('PEXPIRE', key, {KEPT})
end
-- Without a lifetime, what we know is but a copy of what Express has, and may go a day after it.
local function outlive(id, sid)
  local key, left = base .. 'm:' .. id, redis.call('PTTL', prefix .. sid)
  if redis.call('HEXISTS', key, 'expires_at') == 1 then return end
  redis.call('PEXPIRE', key, left < 0 and {KEPT} or num(left + {TOMBSTONE_TTL}))
end
local function show(id, sid)
  local meta = redis.call('HMGET', base .. 'm:' .. id, unpack(FACTS))
  sid = sid or meta[1]
  if not sid then return {{'absent', id}} end
  local text = redis.call('GET', prefix .. sid)
  if not text then return {{'absent', id}} end
  return {{'live', id, sid, text, redis.call('PTTL', prefix .. sid), meta}}
end
"""

# ARGV: ids and sids, in turn; a sid may be '' where only the id is known.
LOOK = (
    PRELUDE
    + f"""
local due = redis.call('ZRANGEBYSCORE', base .. 'guard', '-inf', num(now), 'LIMIT', 0, {GUARDED})
for _, member in ipairs(due) do
  local at, sid = string.match(member, '^(%d+):(.*)$')
  redis.call('DEL', prefix .. sid)
  local age = now - tonumber(at)
  if age > {GUARD_FOR} then redis.call('ZREM', base .. 'guard', member)
  else redis.call('ZADD', base .. 'guard', num(now + math.max({GUARD_FIRST}, age / 4)), member) end
end
local answers = {{now}}
for i = 4, #ARGV, 2 do
  local id, sid = ARGV[i], ARGV[i + 1] ~= '' and ARGV[i + 1] or nil
  local tomb = redis.call('HMGET', base .. 't:' .. id, 'at', 'by', 'reason', 'heir', 'till')
  if not tomb[1] then answers[#answers + 1] = show(id, sid)
  else
    if sid then redis.call('DEL', prefix .. sid) end
    local heir = {{'ended', id, tomb[1], tomb[2], tomb[3]}}
    if sid and tomb[4] and tonumber(tomb[5]) > now then
      local shown = show(tomb[4], nil)
      if shown[1] == 'live' then heir = shown end
    end
    answers[#answers + 1] = heir
  end
end
return answers
"""
)
# ARGV: ids, sids and users, in turn, of sessions that Express has begun or given to another user.
ADOPT = (
    PRELUDE
    + """
for i = 4, #ARGV, 3 do
  local id, sid, user = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local key = base .. 'm:' .. id
  if redis.call('EXISTS', prefix .. sid) == 1 and redis.call('EXISTS', base .. 't:' .. id) == 0 then
    local was = redis.call('HGET', key, 'user')
    if was and was ~= user then
      redis.call('ZREM', base .. 'u:' .. was, id)
      redis.call('HDEL', key, 'user', 'authenticated_at', 'level', 'impersonator')
    end
    redis.call('HSET', key, 'sid', sid)
    if user ~= '' then
      redis.call('HSET', key, 'user', user)
      index(user, id)
    end
    outlive(id, sid)
  end
end
"""
)
# ARGV: ids, sids and ms to live, in turn. A key that is gone stays gone, and no end comes nearer.
TOUCH = (
    PRELUDE
    + """
for i = 4, #ARGV, 3 do
  local id, sid, ahead = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local left = redis.call('PTTL', prefix .. sid)
  if left >= 0 and left < tonumber(ahead) then
    redis.call('PEXPIRE', prefix .. sid, ahead)
    outlive(id, sid)
  end
end
"""
)
# ARGV: ids and devices, in turn: of the first use that is seen, then of the last. What is gone stays gone.
USED = (
    PRELUDE
    + """
for i = 4, #ARGV, 2 do
  local key = base .. 'm:' .. ARGV[i]
  if redis.call('HEXISTS', key, 'sid') == 1 then
    local known = redis.call('HEXISTS', key, 'device') == 1
    redis.call('HSET', key, known and 'last_device' or 'device', ARGV[i + 1])
  end
end
"""
)
# ARGV: id, user, label or ''. 1: done; 0: no such session of this user's. A label is kept with who gave it,
# for Express may give the session to somebody else.
RENAME = (
    PRELUDE
    + """
local id, user, label = ARGV[4], ARGV[5], ARGV[6]
local key = base .. 'm:' .. id
local meta = redis.call('HMGET', key, 'sid', 'user')
if not meta[1] or meta[2] ~= user then return 0 end
if redis.call('EXISTS', prefix .. meta[1]) == 0 then return 0 end
if label == '' then redis.call('HDEL', key, 'label', 'label_user')
else redis.call('HSET', key, 'label', label, 'label_user', user) end
return 1
"""
)
# ARGV: id, sid, old, new. 0: gone; 1: somebody else has written; 2: done.
SWAP = (
    PRELUDE
    + """
local id, key, old, new = ARGV[4], prefix .. ARGV[5], ARGV[6], ARGV[7]
if redis.call('EXISTS', base .. 't:' .. id) == 1 then return 0 end
local text = redis.call('GET', key)
if not text then return 0 end
if text ~= old then return 1 end
redis.call('SET', key, new, 'XX', 'KEEPTTL')
return 2
"""
)
# ARGV: sid, id, text, ms to live, ms to know of it, user, ids the user may have ('*': any), how many
# facts, facts, and ids, reasons and actors, in turn, of what ends first. 1: done; 0: the user's sessions
# are others than these.
BEGIN = (
    PRELUDE
    + """
local sid, id, text, ttl, known, user, seen = unpack(ARGV, 4, 10)
if seen ~= '*' then
  local count = 0
  for each in string.gmatch(seen, '%S+') do
    if not redis.call('ZSCORE', base .. 'u:' .. user, each) then return 0 end
    count = count + 1
  end
  if count ~= redis.call('ZCARD', base .. 'u:' .. user) then return 0 end
end
local facts = tonumber(ARGV[11])
for i = 12 + facts, #ARGV, 3 do finish(ARGV[i], ARGV[i + 1], ARGV[i + 2]) end
redis.call('SET', prefix .. sid, text, 'NX', 'PX', ttl)
redis.call('HSET', base .. 'm:' .. id, 'sid', sid, unpack(ARGV, 12, 11 + facts))
redis.call('PEXPIRE', base .. 'm:' .. id, known)
if user ~= '' then index(user, id) end
return 1
"""
)
# ARGV: id, new sid, new id, grace, level or ''.
ROTATE = (
    PRELUDE
    + """
local id, sid, heir, grace, level = unpack(ARGV, 4, 8)
if redis.call('EXISTS', base .. 't:' .. id) == 1 then return {now, {'absent', id}} end
local old = show(id, nil)
if old[1] ~= 'live' then return {now, old} end
if old[5] >= 0 then redis.call('SET', prefix .. sid, old[4], 'NX', 'PX', math.max(1, old[5]))
else redis.call('SET', prefix .. sid, old[4], 'NX') end
local key, user = base .. 'm:' .. heir, redis.call('HGET', base .. 'm:' .. id, 'user')
redis.call('HSET', key, unpack(redis.call('HGETALL', base .. 'm:' .. id)))
redis.call('HSET', key, 'sid', sid)
if level ~= '' then redis.call('HSET', key, 'level', level, 'authenticated_at', num(now)) end
redis.call('PEXPIRE', key, redis.call('PTTL', base .. 'm:' .. id))
if user then index(user, heir) end
if tonumber(grace) > 0 then finish(id, 'rotated', '', heir, now + tonumber(grace))
else finish(id, 'rotated', '') end
return {now, show(heir, sid)}
"""
)
# ARGV: reason, actor, ids. Returns the ids this ended.
END = (
    PRELUDE
    + """
local ended = {}
for i = 6, #ARGV do if finish(ARGV[i], ARGV[4], ARGV[5]) then ended[#ended + 1] = ARGV[i] end end
return ended
"""
)
# ARGV: user, ids that were found gone. An index forgets what expired by itself.
FORGET = (
    PRELUDE
    + """
for i = 5, #ARGV do
  local sid = redis.call('HGET', base .. 'm:' .. ARGV[i], 'sid')
  if not sid or redis.call('EXISTS', prefix .. sid) == 0 then
    redis.call('ZREM', base .. 'u:' .. ARGV[4], ARGV[i])
    redis.call('DEL', base .. 'm:' .. ARGV[i])
  end
end
"""
)
