-- Then epoch, counter and nonce where the caller stands. Answers the changes since, or 0 if only a full read can tell.
local known = redis.call('HMGET', state, 'epoch', 'rev', 'nonce')
local counter, last = tonumber(ARGV[6]), tonumber(known[2]) or 0
if (known[1] or '') ~= ARGV[5] then return 0 end
if last == counter and (known[3] or '') == ARGV[7] then return {} end
local function other_history()
  -- Same epoch, other past: a fail-over lost writes. Who may not write leaves the new epoch to others.
  redis.pcall('HSET', state, 'epoch', nonce)
  return 0
end
if last < counter then return other_history() end
if last - counter > 1000 and last - counter > redis.call('HLEN', records) then return 0 end
local entries = redis.call('XRANGE', log, string.format('%.0f-0', counter), '+')
if #entries == 0 or entries[1][1] ~= string.format('%.0f-0', counter) then return 0 end
if entries[1][2][8] ~= ARGV[7] then return other_history() end
table.remove(entries, 1)
return entries
