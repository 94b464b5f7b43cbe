-- Store.forget. Asked: user, sessions, pools.
local user, sessions, names = ASKED[1], ASKED[2], ASKED[3]

for _, id in ipairs(sessions) do
  local m = read_meta(id)
  if m and m[USER] == user then forget_session(id, m) end
end
for _, name in ipairs(names) do
  local p = pool_of(name)
  for _, key in ipairs({p.Z, p.Y}) do
    for _, id in ipairs(call('ZRANGE', key, 0, -1)) do
      local row = find(p, id)
      if row then forget(p, row) end
    end
  end
  call('DEL', p.key, p.Z, p.Y, p.K, p.J, p.I, p.W, p.G, p.GC)
  call('SREM', BASE .. 'pools', name)
  call('SREM', BASE .. 'shared', name)
  call('ZREM', BASE .. 'pd', name)
end
tick()
return 1
