-- Reads entries of the stream up to about as many bytes as are wanted. Redis itself can only limit
-- the number of entries, and an entry may be empty or have megabytes.
--
-- KEYS  the stream
-- ARGV  1 the id after which the entries begin
--       2 the id of the last entry that may be read
--       3 the bytes that are wanted, exceeded by at most one entry; 0 asks only for the first entry
--         without its message
-- Returns entries as XRANGE does.
local MOST = 256
local wanted, entries, bytes, from = tonumber(ARGV[3]), {}, 0, '(' .. ARGV[1]
if wanted == 0 then
  local first = redis.call('XRANGE', KEYS[1], from, ARGV[2], 'COUNT', 1)[1]
  if not first then return {} end
  local message = { m = true, a = true, t = true }
  local fields = {}
  for i = 1, #first[2], 2 do
    fields[i], fields[i + 1] = first[2][i], message[first[2][i]] and '' or first[2][i + 1]
  end
  return { { first[1], fields } }
end
local step = 1
repeat
  local some = redis.call('XRANGE', KEYS[1], from, ARGV[2], 'COUNT', step)
  for _, entry in ipairs(some) do
    entries[#entries + 1] = entry
    for _, part in ipairs(entry[2]) do bytes = bytes + #part end
    if bytes >= wanted then return entries end
    from = '(' .. entry[1]
  end
  local full = #some == step
  -- The next step reads as many entries as would be enough if they were like those so far. A few
  -- small entries say little about the rest, so a step at most doubles the one before.
  if bytes > 0 then
    local enough = math.ceil((wanted - bytes) * #entries / bytes)
    step = math.max(math.min(enough, step * 2, MOST), 1)
  end
until not full
return entries
