-- Then name, '1' for an owned record, value, the revision that it must have ('' if it must not be there).
sweep()
local name, owner, value, expected = ARGV[5], ARGV[6] == '1' and me or NOBODY, ARGV[7], ARGV[8]
local stored = redis.call('HGET', records, name)
local holder, revision, present = NOBODY, '', nil
if stored then holder, revision, present = split(stored) end
if revision ~= expected then return commit() or ('C' .. revision) end
if not stored or holder ~= owner or present ~= value then
  if holder ~= owner then forget(holder, name) end
  revision = write(name, owner, value)
end
if owner ~= NOBODY then redis.call('ZADD', leases, now + lease, me) end
return commit() or ('R' .. revision)
