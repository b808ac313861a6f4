-- The room's one critical section when an engine keeps it: time, order, and keys of messages that may be sent again.
--
-- KEYS  the stream, the state, then one for each message that has an idempotency key
-- ARGV  1 the epoch that the caller is in, or nothing
--       2 how far the caller has come in it, in microseconds
--       3 the highest time that the caller ever saw, in any epoch
--       4 a name for a new epoch, should one have to begin
--       5 1 if the caller has seen that the stream went backwards
--       6 how many messages the stream keeps, about; 0 for all
--       7 how long a key is remembered, in milliseconds
--       8 and on, four for each message: the epoch it is meant for, or nothing; 1 if it has a key; author; text
-- Gives the epoch, the time of the last message, the time by the clock, and for each message its time, its time behind the word before if
-- it came before, or a word that says why it has none. An error of the script means that no message is in the stream; one about a single
-- message is its result instead, behind a !.
local stream, state = KEYS[1], KEYS[2]
local known, reached, floor, candidate = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]

-- Microseconds are below 2^53 until the year 2255, so Lua's numbers have them exactly.
local function text(micros) return string.format('%.0f', micros) end

-- Somebody else can have added an entry whose id is so late that no message can be later: the stream takes none that is not. In the words of
-- an error, which the room's servers pass on.
local function ahead(id)
  return 'AHEAD of all messages is the id ' .. id .. ' in ' .. stream .. ', which is not of this room: see docs/redis.md'
end

local had = redis.call('HMGET', state, 'epoch', 'last')
local epoch, last = had[1], tonumber(had[2] or '0')
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

-- The latest id that the stream has ever had.
local function last_id()
  local info = redis.pcall('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return info[i + 1] end
  end
end

if not epoch then
  -- Of a stream that is there without its state, what is added must still be later.
  local id = last_id()
  local time = id and tonumber(string.match(id, '^%d+')) or last
  if time >= 2 ^ 53 then return redis.error_reply(ahead(id)) end
  last = math.max(time, now)
end
-- Who has seen messages that are later than all there are, in whatever epoch, has seen some that the engine has lost since: it may even be
-- back in an epoch that was over. The new one begins behind what anybody can have seen, so that the others do not say the same of it.
if not epoch or floor > last or (epoch == known and (ARGV[5] == '1' or reached > last)) then
  epoch, last = candidate, math.max(last, reached, floor, now)
  redis.call('HSET', state, 'epoch', epoch, 'last', text(last))
end

if #ARGV == 7 then
  -- Who only asks would otherwise wait for messages that cannot come.
  local top = redis.pcall('XREVRANGE', stream, '+', '(' .. text(last) .. '-0', 'COUNT', 1)
  local id = top[1] and top[1][1]
  if id and tonumber(string.match(id, '^%d+')) >= math.max(now, last + 1, floor + 1) then
    return redis.error_reply(ahead(id))
  end
end

-- If the engine refuses to be written to, it must say so before there is a message: what the script has done by then stays.
if #ARGV > 7 then redis.call('HSET', state, 'last', text(last)) end

local answer, nextkey = { epoch, '', text(now) }, 3
for at = 8, #ARGV, 4 do
  local wanted, author, body = ARGV[at], ARGV[at + 2], ARGV[at + 3]
  local key, digest, result
  if ARGV[at + 1] == '1' then
    key, nextkey = KEYS[nextkey], nextkey + 1
    digest = redis.sha1hex(#author .. ':' .. author .. body)
  end
  if wanted ~= '' and wanted ~= epoch then
    result = 'epoch'
  elseif key then
    local before = redis.pcall('GET', key)
    if type(before) == 'table' then
      result = '!' .. before.err
    elseif before and before ~= '' then
      local time, same = string.match(before, '^(%d+) (%x+)$')
      result = same == digest and 'before ' .. time or 'taken'
    end
  end
  if not result then
    local time = math.max(now, last + 1, floor + 1)
    -- The key first: a message in the stream whose key is not remembered could come there again.
    local done = key and redis.pcall('SET', key, text(time) .. ' ' .. digest, 'PX', ARGV[7])
    if not (done and done.err) then
      -- p makes a chain of them: whoever finds that a message does not follow on the one before knows that one is missing.
      if ARGV[6] == '0' then
        done = redis.pcall('XADD', stream, text(time) .. '-0', 'e', epoch, 'p', text(last), 'a', author, 't', body)
      else
        done = redis.pcall('XADD', stream, 'MAXLEN', '~', ARGV[6], text(time) .. '-0',
          'e', epoch, 'p', text(last), 'a', author, 't', body)
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
-- Written also when no message was new: the replicas that the caller then waits for must have what a former call has written.
if #ARGV > 7 then redis.call('HSET', state, 'last', text(last)) end
answer[2] = text(last)
return answer
