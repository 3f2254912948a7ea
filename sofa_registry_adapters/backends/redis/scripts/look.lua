-- Keeps the owner alive and answers what tells cheaply whether anything is amiss:
-- whether it has a lease, how many names it has, how many records there are more than scripts put there, the state,
-- and how many records there are.
local till = me ~= '' and redis.call('ZSCORE', leases, me)
if till and till - now < lease * 2 / 3 then
  -- A server that is out of memory takes ZADD from a script only after a write that frees memory.
  redis.call('PERSIST', leases)
  redis.call('ZADD', leases, 'XX', now + lease, me)
end
sweep()
local failed = commit()
if failed then return failed end
local held = till and redis.call('ZLEXCOUNT', names, range_of(me)) or 0
local known = redis.call('HMGET', state, 'epoch', 'rev')
return { till and 1 or 0, held, foreign(), known[1] or '', known[2] or '0', redis.call('HLEN', records) }
