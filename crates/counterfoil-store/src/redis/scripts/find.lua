-- ARGV: pairs of a digest and its scheme (empty: native), in the order in which they are looked for.
for at = 5, #ARGV, 2 do
  local digest, scheme = ARGV[at], ARGV[at + 1]
  local id = call('GET', R .. 'd:' .. digest)
  local t, S, C
  if id then t, S, C = load(id) end
  if t then
    local how, grace
    if t.d == digest then
      if (t.h or '') == scheme then how = t.u and 's' or 'c' end
    else
      for _, old in ipairs(t.q or {}) do
        if old[1] == digest and old[2] == scheme then how, grace = old[5] and 't' or 'g', old[4] end
      end
    end
    if how then
      return { id, t.k, t.s, S.st, client_record(t.c, C), t.a, t.i, t.e or false, t.r or false, t.es, t.ec, t.ed,
        stands_at(t, S), C.ep, EP, digest, how, grace or 0 }
    end
  end
end
return false
