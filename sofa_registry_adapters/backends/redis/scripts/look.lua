-- Then '1' before a full read. Keeps the owner alive and answers what tells cheaply whether anything is amiss:
-- whether it has a lease, how many names it has, how many records there are more than scripts put there, epoch
-- and counter, how many records there are, and owners that are dead and could not be swept.
local till = me ~= '' and redis.call('ZSCORE', leases, me)
if till and till - now < lease * 2 / 3 then
  -- A server that is out of memory takes ZADD from a script only after a write that takes no memory.
  redis.call('PERSIST', leases)
  redis.call('ZADD', leases, 'XX', now + lease, me)
end
sweep()
local failed = commit()
if failed then return failed end
if ARGV[5] == '1' and redis.call('HEXISTS', state, 'epoch') == 0 then
  -- An empty bucket gets the epoch of its first record now; who may only read does without.
  if not refused(redis.pcall('HSET', state, 'rev', 0, 'epoch', nonce, 'nonce', nonce)) then
    redis.call('DEL', log)
    if redis.call('EXISTS', records) == 0 then redis.call('EXPIRE', state, EMPTY_KEPT_SECONDS) end
  end
end
local held = till and redis.call('ZLEXCOUNT', names, range_of(me)) or 0
local known = redis.call('HMGET', state, 'epoch', 'rev')
local dead = redis.call('ZRANGEBYSCORE', leases, '-inf', now)
return { till and 1 or 0, held, foreign(), known[1] or '', known[2] or '0', redis.call('HLEN', records), dead }
