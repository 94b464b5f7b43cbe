-- Which server this is. A server that was restarted, or a replica that took over, may lack what was
-- answered last; so may one that was emptied. Whatever writes events finds that out in its own step.
-- Of the shard's own hash: run: the server's run_id; layout: how keys and rows are; epoch: how many
-- servers that makes; doubt: until when holders may come back whom we do not know; strict: whether
-- nobody else may come meanwhile; lost: the longest lost_after of any pool.
local LAYOUT = 2 -- health.py refuses what has another
local LOST_AFTER = 90000
local EPOCH_GAP = 1000000 -- ids that the lost events may have had: nobody gets them again
local identified = false

-- From now on, for as long as a holder that we do not know may live.
local function doubt()
  local longest = tonumber(call('HGET', SELF, 'lost') or LOST_AFTER)
  local epoch = call('HINCRBY', SELF, 'epoch', 1)
  call('HSET', SELF, 'doubt', now + longest)
  tell(now, 'store.replaced', nil, nil, nil, nil, nil, {epoch = epoch, doubtFor = longest})
end

identify = function()
  if identified then return end
  identified = true
  local run = string.match(call('INFO', 'server'), 'run_id:(%x+)')
  local known = call('HGET', SELF, 'run')
  if known == run then return end
  call('HSET', SELF, 'run', run, 'layout', LAYOUT)
  if known then
    call('HINCRBY', SELF, 'events', EPOCH_GAP)
    doubt()
  end
end
