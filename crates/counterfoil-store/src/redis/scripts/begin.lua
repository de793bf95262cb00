-- A store by that tally (empty: it has none), where there was none.
local function begin(tally)
  -- Another life, by another name: whatever is left of the one before belongs to no index and no log of this one.
  for _, name in ipairs({ 'n', 'e', 'r', 'q', 'x', 'b', 'f', 'l', 'k' }) do call('UNLINK', R .. name) end
  call('HSET', R .. 'm', 'id', ARGV[3], 'tag', string.sub(ARGV[3], 9, 12), 'ep', 0, 'at', 0, 'head', 0, 'num', 0, 'cnt', 0)
  if tally ~= '' then call('HSET', R .. 'm', 'of', tally) end
end
