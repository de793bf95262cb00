-- ARGV, for each that was ended and may have come back: kind, whose, and up to three values of that kind. Ends it again.
local again = 0
for at = 5, #ARGV, 5 do
  local kind, whose, one, two, three = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  if kind == 'R' then
    local t = load(whose)
    if t and not t.r then
      revoke(whose, t)
      log('R', digests(t), { whose })
      again = again + 1
    end
  elseif kind == 'G' then
    -- A secret that had been given up is the token's again, or may be exchanged again: its successor is lost, so the token ends.
    local id = call('GET', R .. 'd:' .. whose)
    local t = id and load(id)
    if t and not t.r then
      local is_back = t.d == whose
      for _, old in ipairs(t.q or {}) do if old[1] == whose and old[4] > tonumber(one) then is_back = true end end
      if is_back then
        revoke(id, t)
        log('R', digests(t), { id })
        again = again + 1
      end
    end
  elseif kind == 'S' then
    local st, le, ke = one, tonumber(two), tonumber(three)
    local S = subject(whose)
    if not S and (st ~= 'a' or le > 0 or ke > 0) then
      -- Whoever is disabled or deleted stays so where everything was lost; and epochs go on from where they were, so that to assert
      -- them another time ends nothing that was issued since.
      S = { st = 'a', le = 0, ke = 0, la = 0, ka = 0 }
      subjects[whose] = S
      call('UNLINK', R .. 'i:' .. whose)
      call('HSET', R .. 's:' .. whose, 'st', 'a', 'at', now, 'le', 0, 'la', 0, 'ke', 0, 'ka', 0, 'g',
        string.sub(ARGV[3], 1, 4), 'cnt', 0)
    end
    local worse = S and S.st ~= 'b' and st ~= 'a' and S.st ~= st
    if S and (S.le < le or S.ke < ke or worse) then
      if S.le < le then
        S.le, S.la = le, now
        call('ZADD', R .. 'b', now, 'l' .. whose)
      end
      if S.ke < ke then
        S.ke, S.ka = ke, now
        call('ZADD', R .. 'b', now, 'k' .. whose)
      end
      if worse then
        S.st = st
        call('HSET', R .. 's:' .. whose, 'at', now)
        if st == 'b' then call('ZADD', R .. 'b', now, 'x' .. whose) end
      end
      call('HSET', R .. 's:' .. whose, 'st', S.st, 'le', S.le, 'la', S.la, 'ke', S.ke, 'ka', S.ka)
      log('S', whose, S.st, S.le, S.ke)
      again = again + 1
    end
  elseif kind == 'C' then
    local C = client(whose)
    if C and two == '1' then
      clients[whose] = false
      call('DEL', R .. 'c:' .. whose)
      call('HDEL', R .. 'cn', C.name)
      call('ZADD', R .. 'b', 0, 'g' .. whose)
      log('C', whose, C.ep, 1)
      again = again + 1
    elseif C and C.ep < tonumber(one) then
      C.ep, C.ver = tonumber(one), C.ver + 1
      call('HSET', R .. 'c:' .. whose, 'ep', C.ep, 'ver', C.ver, 'at', now)
      call('ZADD', R .. 'b', now, 'c' .. whose)
      log('C', whose, C.ep, 0)
      again = again + 1
    end
  elseif kind == 'E' and EP < tonumber(one) then
    EP = tonumber(one)
    call('HSET', R .. 'm', 'ep', EP, 'at', now)
    call('ZADD', R .. 'b', now, 'd')
    log('E', EP)
    again = again + 1
  end
end
return again
