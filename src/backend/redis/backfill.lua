-- Messages from somewhere in the stream on, up to about as many bytes as are wanted: the stream itself can only be asked for a number of
-- messages, and one of them may be empty or have megabytes.
--
-- KEYS  the stream
-- ARGV  1 the id after which they begin; 2 that of the last one wanted
--       3 bytes, exceeded by one message at most; 0 asks only on what the first message follows
-- Gives entries as XRANGE does, of which the first has no author and no text if only that is asked for.
local MOST = 256
local wanted, entries, bytes, from = tonumber(ARGV[3]), {}, 0, '(' .. ARGV[1]
if wanted == 0 then
  local first = redis.call('XRANGE', KEYS[1], from, ARGV[2], 'COUNT', 1)[1]
  if not first then return {} end
  local fields = {}
  for i = 1, #first[2], 2 do
    local own = first[2][i] == 'a' or first[2][i] == 't'
    fields[i], fields[i + 1] = first[2][i], own and '' or first[2][i + 1]
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
  -- As many as would be enough if they were like those so far, which a few small ones say little about: what is read and not given has been
  -- read for nothing.
  if bytes > 0 then step = math.max(math.min(math.ceil((wanted - bytes) * #entries / bytes), step * 2, MOST), 1) end
until not full
return entries
