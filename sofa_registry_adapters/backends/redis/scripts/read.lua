-- Then epoch and counter that the caller knows. Answers the state, and, if it is another, owners whose
-- records are no longer to be seen, and all records. An empty bucket gets its epoch now, so that it is the
-- one of its first record; who may only read does without.
sweep()
local failed = commit()
if failed then return failed end
local known = redis.call('HMGET', state, 'epoch', 'rev', 'nonce')
if not known[1] and not refused(redis.pcall('HSET', state, 'rev', 0, 'epoch', nonce, 'nonce', nonce)) then
  redis.call('DEL', log)
  if redis.call('EXISTS', records) == 0 then redis.call('EXPIRE', state, EMPTY_KEPT_SECONDS) end
  known = { nonce, '0', nonce }
end
local found = { known[1] or '', known[2] or '0', known[3] or '' }
if found[1] == ARGV[5] and found[2] == ARGV[6] and found[1] ~= '' then
  return found
end
found[4] = redis.call('ZRANGEBYSCORE', leases, '-inf', now)
found[5] = redis.call('HGETALL', records)
return found
