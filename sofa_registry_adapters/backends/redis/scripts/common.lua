-- In front of every script. All keys belong to one bucket and have one hash tag.
-- KEYS: the bucket's records, the leases of their owners, names by owner, log of changes, state, channel of changes.
-- ARGV: this owner ('' for none), its lease in ms, entries that the log keeps, a text that no other call has.
local records, leases, names, log, state, channel = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local me, lease, kept, nonce = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]

local SEPARATOR, AFTER_SEPARATOR = '\31', '\32'
local NOBODY = '-'
local OWNERS_SWEPT, RECORDS_SWEPT = 8, 2000
local MESSAGE_CHANGES, MESSAGE_BYTES = 200, 262144
local EMPTY_KEPT_SECONDS = 600
-- Of large records the log keeps so many bytes, whatever number of entries it may have: who misses more reads them anew.
local LARGE, LOG_BYTES, LOG_LEAST = 2048, 2000000, 4

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local rev, epoch, failure
local grown, pending, pending_bytes = 0, {}, 0

local function refused(answer)
  return type(answer) == 'table' and answer.err
end

-- For what must not stop a script halfway: the first error is what the script answers at its end.
local function attempt(...)
  local answer = redis.pcall(...)
  if refused(answer) then
    failure = failure or answer
    return nil
  end
  return answer
end

-- A record is kept as owner, revision and value.
local function split(stored)
  local first = string.find(stored, SEPARATOR, 1, true)
  local second = first and string.find(stored, SEPARATOR, first + 1, true)
  if not second then return NOBODY, '0', stored end
  return string.sub(stored, 1, first - 1), string.sub(stored, first + 1, second - 1), string.sub(stored, second + 1)
end

local function is_alive(owner)
  local till = redis.call('ZSCORE', leases, owner)
  return till and tonumber(till) > now
end

local function range_of(owner)
  return '[' .. owner .. SEPARATOR, '(' .. owner .. AFTER_SEPARATOR
end

local function begin()
  if rev then return end
  local known = redis.call('HMGET', state, 'rev', 'epoch')
  rev, epoch = tonumber(known[1]), known[2]
  if rev and epoch then return end
  rev, epoch = 0, nonce
  redis.call('HSET', state, 'rev', 0, 'epoch', epoch)
  redis.call('DEL', log)
end

local function publish()
  if #pending == 0 then return end
  attempt('PUBLISH', channel, '1 ' .. epoch .. ' ' .. nonce .. ' ' .. #pending .. '\n' .. table.concat(pending))
  pending, pending_bytes = {}, 0
end

local function length(stored)
  if #stored <= LARGE then return kept end
  return math.min(tonumber(kept), math.max(LOG_LEAST, math.floor(LOG_BYTES / #stored)))
end

local function note(operation, name, stored)
  rev = rev + 1
  local entry = { 'XADD', log, 'MAXLEN', '~', length(stored), string.format('%.0f-0', rev),
    'o', operation, 'i', name, 'v', stored, 'n', nonce }
  local answer = redis.pcall(unpack(entry))
  if refused(answer) then
    -- A log that is ahead of the state is of another history.
    attempt('DEL', log)
    attempt(unpack(entry))
  end
  pending[#pending + 1] = string.format('%.0f %s %d %d\n', rev, operation, #name, #stored) .. name .. stored
  pending_bytes = pending_bytes + #pending[#pending]
  if #pending >= MESSAGE_CHANGES or pending_bytes >= MESSAGE_BYTES then publish() end
end

local function write(name, owner, value)
  begin()
  local revision = string.format('%.0f-%s', rev + 1, nonce)
  local stored = owner .. SEPARATOR .. revision .. SEPARATOR .. value
  grown = grown + redis.call('HSET', records, name, stored)
  if owner ~= NOBODY then redis.call('ZADD', names, 0, owner .. SEPARATOR .. name) end
  note('p', name, stored)
  return revision
end

-- The name is no longer the owner's; an owner without a name needs no lease.
local function forget(owner, name)
  if owner == NOBODY then return end
  redis.call('ZREM', names, owner .. SEPARATOR .. name)
  if redis.call('ZLEXCOUNT', names, range_of(owner)) == 0 then redis.call('ZREM', leases, owner) end
end

local function remove(name)
  begin()
  grown = grown - redis.call('HDEL', records, name)
  note('d', name, '')
end

local function drop(owner)
  local low, high = range_of(owner)
  local owned = redis.call('ZRANGEBYLEX', names, low, high)
  for _, member in ipairs(owned) do
    local name = string.sub(member, #owner + 2)
    local stored = redis.call('HGET', records, name)
    if stored and split(stored) == owner then remove(name) end
  end
  if #owned > 0 then redis.call('ZREMRANGEBYLEX', names, low, high) end
  redis.call('ZREM', leases, owner)
  return #owned
end

local function sweep()
  local dead = redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, OWNERS_SWEPT)
  local dropped = 0
  for _, owner in ipairs(dead) do
    if owner ~= me and dropped < RECORDS_SWEPT then
      -- Who may only read leaves the sweeping to others.
      local answer = redis.pcall('ZREM', leases, owner)
      if refused(answer) then return end
      dropped = dropped + drop(owner)
    end
  end
end

-- What `records` has more or less than the scripts put there: another number means that somebody else wrote.
local function foreign()
  return redis.call('HLEN', records) - (tonumber(redis.call('HGET', state, 'count')) or 0)
end

-- The end of every script that may write.
local function commit()
  if rev then
    publish()
    redis.call('HSET', state, 'rev', string.format('%.0f', rev), 'nonce', nonce)
    if grown ~= 0 then redis.call('HINCRBY', state, 'count', grown) end
    for _, key in ipairs({ state, log }) do
      if redis.call('EXISTS', records) == 0 then
        redis.call('EXPIRE', key, EMPTY_KEPT_SECONDS)
      else
        redis.call('PERSIST', key)
      end
    end
  end
  return failure
end
