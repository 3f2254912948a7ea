-- Then, for each record: name, '1' for an owned one, value. Answers for each, in one text, 'R' and the revision, or 'C' and the holder:
-- a reply of many parts costs the client more than all the rest.
sweep()
local answers, leased = {}, false
for at = 5, #ARGV, 3 do
  local name, owner, value = ARGV[at], ARGV[at + 1] == '1' and me or NOBODY, ARGV[at + 2]
  local stored = redis.call('HGET', records, name)
  local holder, revision, present = owner, nil, nil
  if stored then holder, revision, present = split(stored) end
  if holder ~= owner and (holder == NOBODY or is_alive(holder)) then
    answers[#answers + 1] = 'C' .. holder
  else
    if stored and holder == owner and present == value then
      if owner ~= NOBODY then redis.call('ZADD', names, 0, owner .. SEPARATOR .. name) end
    else
      if holder ~= owner then forget(holder, name) end
      revision = write(name, owner, value)
    end
    answers[#answers + 1] = 'R' .. revision
    leased = leased or owner ~= NOBODY
  end
end
if leased then redis.call('ZADD', leases, now + lease, me) end
return commit() or table.concat(answers, SEPARATOR)
