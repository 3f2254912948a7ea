-- Answers names and revisions of the records that are this owner's, in truth.
local low, high = range_of(me)
local found = {}
for _, member in ipairs(redis.call('ZRANGEBYLEX', names, low, high)) do
  local name = string.sub(member, #me + 2)
  local stored = redis.call('HGET', records, name)
  if stored then
    local holder, revision = split(stored)
    if holder == me then
      found[#found + 1] = name
      found[#found + 1] = revision
    end
  end
end
return found
