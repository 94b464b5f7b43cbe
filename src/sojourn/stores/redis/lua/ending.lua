-- Store.end and cut_off.
local verb
verb, ASKED = ASKED[1], ASKED[2]
local verbs = {}

-- Asked: user, ids, {to keep, ...}, reason, actor, key. With both, those of the ids that are the user's.
-- Answer: 0 and which were ended; 1, which were ended when it came before, and its note; 2: it was another's.
verbs['end'] = function()
  local user, ids, keep, reason, actor, once = unpack(ASKED, 1, 6)
  local before
  if once then before = repeats.first(once) end
  if before == false then return {2} end
  if before then return {1, before[5], before[3]} end
  local kept, done, ended = {}, {}, {}
  for _, id in ipairs(keep) do kept[id] = true end
  if not ids then ids = call('ZRANGE', BASE .. 'u:' .. user, 0, -1) end
  for _, id in ipairs(ids) do
    if not kept[id] and not done[id] then
      done[id] = true
      local m = read_live(id)
      if m and (not user or m[USER] == user) then
        end_session(id, m, now, reason, actor or nil)
        ended[#ended + 1] = id
      end
    end
  end
  if once then repeats.keep(once, 'ended', ended) end
  return {0, ended}
end

-- Asked: user, reason, actor. It lies after every one before it that may have pushed a session.
function verbs.cut_off()
  local user, reason, actor = ASKED[1], ASKED[2], ASKED[3]
  local at = now
  if user then
    for _, scope in ipairs({'=' .. user, '*'}) do
      local cut = cut_of_scope(scope)
      if cut then at = math.max(at, cut[1] + 1) end
    end
  else
    local last = call('ZREVRANGE', BASE .. 'v', 0, 0, 'WITHSCORES')
    if last[2] then at = math.max(at, tonumber(last[2]) + 1) end
  end
  local scope = user and '=' .. user or '*'
  call('HSET', BASE .. 'c', scope, cmsgpack.pack({at, actor or false, reason}))
  call('HSET', BASE .. 'w', scope, '')
  call('ZADD', BASE .. 'v', at, scope)
  return at
end

local answer = verbs[verb]()
flush()
tick()
return answer
