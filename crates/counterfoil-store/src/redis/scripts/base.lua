-- What every script begins with. KEYS[1]: the prefix of all keys. ARGV: the life of the server that the caller knows (empty:
-- any), a colon and the tally of the tokens that it asks about (empty: whichever are here), the instant, sixteen random bytes, the
-- milliseconds after which a dead record may go by itself; then what is asked.
local R, now, GC = KEYS[1], tonumber(ARGV[2]), tonumber(ARGV[4])
local call = redis.call

-- Nothing is read from a replica, nor from a primary that its replicas have left (where the operator has said that it needs
-- some), nor from another life of the server than the one that the caller has settled with. Judged here and not by the
-- caller, because a server may change its part between two commands.
local about = call('INFO', 'replication')
if not string.find(about, 'role:master', 1, true) then return redis.error_reply('READONLY a replica is never asked') end
if string.find(about, 'min_slaves_good_slaves:0', 1, true) then
  return redis.error_reply('NOREPLICAS cut off from its replicas')
end
local life = string.match(about, 'master_replid:(%x+)') or ''
local known = string.match(ARGV[1], '^%x*')
if known ~= '' and known ~= life then return redis.error_reply('CFLIFE another life of the server') end
local M = call('HMGET', R .. 'm', 'id', 'tag', 'ep', 'cnt', 'of')
if not M[1] and not OPENING then return redis.error_reply('CFEMPTY nothing is kept here') end
-- Tokens name their subjects and nothing else: those of another deployment must not be taken for the caller's. A store that is older
-- than tallies goes by its id.
local OURS, TALLY = string.sub(ARGV[1], #known + 2), M[5] or M[1]
if TALLY and OURS ~= '' and OURS ~= TALLY then
  return redis.error_reply('CFOTHER the tokens here are those of another deployment')
end
local TAG, EP = M[2], tonumber(M[3])

local function some(text) if text == '' then return nil end return text end
local function number(text) if text == '' then return nil end return tonumber(text) end

local subjects, clients = {}, {}

local function subject(s)
  local S = subjects[s]
  if S == nil then
    local v = call('HMGET', R .. 's:' .. s, 'st', 'at', 'le', 'la', 'ke', 'ka', 'ev', 'g', 'cnt')
    S = v[1] and { st = v[1], at = tonumber(v[2]), le = tonumber(v[3]), la = tonumber(v[4]), ke = tonumber(v[5]),
      ka = tonumber(v[6]), ever = v[7], g = v[8], cnt = tonumber(v[9]) }
    subjects[s] = S
  end
  return S
end

local function client(c)
  local C = clients[c]
  if C == nil then
    local v = call('HMGET', R .. 'c:' .. c, 'ver', 'ep', 'at', 'name', 'pol', 'may', 'md', 'ca')
    C = v[1] and { ver = tonumber(v[1]), ep = tonumber(v[2]), at = tonumber(v[3]), name = v[4], policy = v[5], may = v[6],
      facts = v[7], made = v[8] }
    clients[c] = C
  end
  return C
end

-- What is kept of a token, whatever has become of what it belongs to.
local function peek(id)
  local raw = call('GET', R .. 't:' .. id)
  return raw and cmsgpack.unpack(raw)
end

-- A token, its subject and its client; nothing where one of them is gone, or is not the one that it was issued for: a row that
-- was evicted and made anew knows nothing of what its epochs had ended.
local function load(id)
  local t = peek(id)
  if not t then return nil end
  local S, C = subject(t.s), client(t.c)
  if not S or not C or t.g ~= S.g .. TAG then return nil end
  return t, S, C
end

local function stands_at(t, S) if t.k == 'l' then return S.le end return S.ke end

-- As `standing` in counterfoil-core has it: l(ive), e(xpired), r(evoked).
local function standing(t, S, C)
  if t.r or t.es < stands_at(t, S) or t.ec < C.ep or t.ed < EP then return 'r' end
  if t.e and now >= t.e then return 'e' end
  return 'l'
end

local function is_live(t, S, C) return standing(t, S, C) == 'l' end
local function is_accepted(t, S, C) return S.st == 'a' and is_live(t, S, C) end

local function record(id, t, S, C)
  return { id, t.n, t.k, t.s, C.name, t.m or false, t.a, t.j or false, t.i, t.e or false, t.r or false, t.es, t.ec, t.ed,
    stands_at(t, S), C.ep, EP, S.st, t.f or false, t.w or false, t.l or false, t.y or false, t.z or false }
end

local function client_record(c, C) return { c, C.ver, C.ep, C.name, C.policy, C.may, C.facts, C.made } end

local function sealed_secret(id, t) return { t.n, id, t.s, t.c, t.d, t.x[1], t.x[2] } end

-- An index that is smaller than what was put into it was evicted: what it would have named must not be passed over.
local function whole(index, count)
  return call('ZCARD', index) == (count or 0)
end
local DAMAGED = redis.error_reply('CFDAMAGED an index was lost: is maxmemory-policy noeviction?')

-- ARGV from `at` on: subject, client's name, kind, issued before, used before, address; what is empty does not matter.
local function filter(at)
  return { s = some(ARGV[at]), c = some(ARGV[at + 1]), k = some(ARGV[at + 2]), i = number(ARGV[at + 3]),
    u = number(ARGV[at + 4]), ip = some(ARGV[at + 5]) }
end

local function is_meant(t, C, f)
  return (not f.s or t.s == f.s) and (not f.c or C.name == f.c) and (not f.k or t.k == f.k)
    and (not f.i or t.i < f.i) and (not f.u or (t.l or t.i) < f.u) and (not f.ip or t.f == f.ip or t.y == f.ip)
end

-- Up to `most` ids of the index that `f` is best read from, behind the number `after`; nil where the index is damaged.
local function ids(f, after, most)
  local index, count = R .. 'n', tonumber(M[4])
  if f.s then
    local S = subject(f.s)
    index, count = R .. 'i:' .. f.s, S and S.cnt or 0
  end
  if not whole(index, count) then return nil end
  return call('ZRANGEBYSCORE', index, '(' .. after, '+inf', 'WITHSCORES', 'LIMIT', 0, most)
end
