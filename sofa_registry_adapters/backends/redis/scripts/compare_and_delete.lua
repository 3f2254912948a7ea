-- Then name and the revision that it must have.
sweep()
local name, expected = ARGV[5], ARGV[6]
local stored = redis.call('HGET', records, name)
local holder, revision = NOBODY, ''
if stored then holder, revision = split(stored) end
if not stored or revision ~= expected then return commit() or ('C' .. revision) end
remove(name)
forget(holder, name)
return commit() or ('R' .. revision)
