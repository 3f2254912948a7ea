-- Then the names. What belongs to another owner stays.
sweep()
for at = 5, #ARGV do
  local stored = redis.call('HGET', records, ARGV[at])
  local holder = stored and split(stored)
  if holder == me or holder == NOBODY then
    remove(ARGV[at])
    forget(holder, ARGV[at])
  elseif not stored then
    forget(me, ARGV[at])
  end
end
return commit() or 1
