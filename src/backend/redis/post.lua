-- Posts messages: the critical section of a room in Redis. The script gives each message its time
-- and its place, and remembers its idempotency key. Without messages it says where the stream ends.
--
-- KEYS  the stream, the state, then one key for each message that has an idempotency key
-- ARGV  1 the caller's epoch, or empty
--       2 the time up to which the caller has that epoch, in microseconds
--       3 the latest time that the caller has seen in any epoch
--       4 the name for a new epoch, if one must begin
--       5 1 if the caller has seen that the stream lost entries
--       6 about how many messages the stream keeps; 0 for all
--       7 how long a key is remembered, in milliseconds
--       8 and on, three for each message: the epoch that it is meant for, or empty; 1 if it has a
--         key; author and text, encoded as protobuf
-- Returns the epoch, the time of the last message, the time of the clock, and a result for each
-- message: its time; "before" and its time if it was posted before under the same key; "taken" if
-- the key is of another message; "epoch" if it is meant for another epoch; or "!" and an error of
-- Redis.
-- An error of the whole script means that no message is in the stream.
local stream, state = KEYS[1], KEYS[2]
local known, reached, floor, candidate = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]

-- Microseconds are below 2^53 until the year 2255, so Lua's numbers have them exactly.
local function text(micros) return string.format('%.0f', micros) end
local function entry_id(micros) return text(micros) .. '-0' end

-- Somebody else may have added an entry with so late an id that no message can follow: the ids of
-- a stream only increase. The servers pass this error on.
local function ahead(id)
  return 'AHEAD of all messages is the id ' .. id .. ' in ' .. stream
    .. ', which is not of this room: see docs/redis.md'
end

-- The state has the last message's id, "<time>-0". Servers before format 2 wrote the time alone.
-- Their script fails on an id before it writes anything, so such a server takes no messages and
-- opens no streams beside newer servers, instead of missing messages that it can't read.
local saved = redis.call('HMGET', state, 'epoch', 'last')
local epoch, last = saved[1], tonumber(string.match(saved[2] or '0', '^%d+'))
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

local function save_last() redis.call('HSET', state, 'last', entry_id(last)) end

-- The latest id that the stream has ever had.
local function last_id()
  local info = redis.pcall('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return info[i + 1] end
  end
end

-- The digest that servers before format 2 remembered with a key. Author and text are protobuf's
-- fields 1 and 2, and an empty one is left out. A field is a byte with its number, its length in
-- groups of 7 bits, and its bytes.
local function digest_of_format_1(message)
  local fields, at = { '', '' }, 1
  while at <= #message do
    local number, length, unit = math.floor(message:byte(at) / 8), 0, 1
    repeat
      at = at + 1
      length, unit = length + message:byte(at) % 128 * unit, unit * 128
    until message:byte(at) < 128
    fields[number], at = message:sub(at + 1, at + length), at + length + 1
  end
  return redis.sha1hex(#fields[1] .. ':' .. fields[1] .. fields[2])
end

if not epoch then
  -- The stream may be there without its state. New entries must follow its last one.
  local id = last_id()
  local time = id and tonumber(string.match(id, '^%d+')) or last
  if time >= 2 ^ 53 then return redis.error_reply(ahead(id)) end
  last = math.max(time, now)
end
-- A caller that has seen a later time than the last message's, in whatever epoch, proves that Redis
-- has lost messages: Redis may even be back in an epoch that was over. The new epoch begins after
-- everything that any caller can have seen, so that the others do not prove the same loss again.
if not epoch or floor > last or (epoch == known and (ARGV[5] == '1' or reached > last)) then
  epoch, last = candidate, math.max(last, reached, floor, now)
  redis.call('HSET', state, 'epoch', epoch, 'last', entry_id(last))
end

if #ARGV == 7 then
  -- A caller that only asks must not wait for messages that the stream can't take.
  local top = redis.pcall('XREVRANGE', stream, '+', '(' .. entry_id(last), 'COUNT', 1)
  local id = top[1] and top[1][1]
  if id and tonumber(string.match(id, '^%d+')) >= math.max(now, last + 1, floor + 1) then
    return redis.error_reply(ahead(id))
  end
end

-- If Redis refuses to write, it must do so before there is a message: a script that fails later
-- leaves what it has written.
if #ARGV > 7 then save_last() end

local answer, next_key = { epoch, '', text(now) }, 3
for at = 8, #ARGV, 3 do
  local wanted, message = ARGV[at], ARGV[at + 2]
  local key, digest, result
  if ARGV[at + 1] == '1' then
    key, next_key = KEYS[next_key], next_key + 1
    digest = redis.sha1hex(message)
  end
  if wanted ~= '' and wanted ~= epoch then
    result = 'epoch'
  elseif key then
    local before = redis.pcall('GET', key)
    if type(before) == 'table' then
      result = '!' .. before.err
    elseif before and before ~= '' then
      local time, same = string.match(before, '^(%d+) (%x+)$')
      same = same == digest or same == digest_of_format_1(message)
      result = same and 'before ' .. time or 'taken'
    end
  end
  if not result then
    local time = math.max(now, last + 1, floor + 1)
    -- The key comes first: a message without a remembered key could be posted twice.
    local done = key and redis.pcall('SET', key, text(time) .. ' ' .. digest, 'PX', ARGV[7])
    if not (done and done.err) then
      local entry = { entry_id(time), 'e', epoch, 'p', text(last), 'v', '2', 'm', message }
      -- p is the time of the message before it. A server whose last message is an earlier one has
      -- missed some.
      if ARGV[6] == '0' then
        done = redis.pcall('XADD', stream, unpack(entry))
      else
        done = redis.pcall('XADD', stream, 'MAXLEN', '~', ARGV[6], unpack(entry))
      end
      if type(done) == 'table' and done.err and key then redis.pcall('SET', key, '', 'PX', 1) end
    end
    if type(done) == 'table' and done.err then
      local id = string.find(done.err, ' ID', 1, true) and last_id()
      result = '!' .. (id and ahead(id) or done.err)
    else
      last, result = time, text(time)
    end
  end
  answer[#answer + 1] = result
end
-- Also if no message was new: the replicas that the caller waits for must have what an earlier call
-- has written.
if #ARGV > 7 then save_last() end
answer[2] = text(last)
return answer
