-- Messages from somewhere in the stream on, up to about as many bytes as are wanted: the stream itself can only be asked for a number of
-- messages, and one of them may be empty or have megabytes.
--
-- KEYS  the stream
-- ARGV  1 the id after which they begin; 2 that of the last one wanted
--       3 bytes, exceeded by one message at most; 0 asks only on what the first message follows
-- Gives entries as XRANGE does, of which the first has no author and no text if only that is asked for.
local STEP = 16
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
repeat
  local some = redis.call('XRANGE', KEYS[1], from, ARGV[2], 'COUNT', STEP)
  for _, entry in ipairs(some) do
    entries[#entries + 1] = entry
    for _, part in ipairs(entry[2]) do bytes = bytes + #part end
    if bytes >= wanted then return entries end
    from = '(' .. entry[1]
  end
until #some < STEP
return entries
