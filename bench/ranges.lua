-- For wrk: ranges of 16 KiB at random places of a file, the same sequence in each run.
-- usage: wrk ... -s ranges.lua URL -- LENGTH_OF_THE_FILE
local length, span = 16384, 0

init = function(args)
  span = tonumber(args[1]) - length
  math.randomseed(1)
end

request = function()
  local from = math.random(0, span)
  return wrk.format("GET", nil, { ["Range"] = "bytes=" .. from .. "-" .. (from + length - 1) })
end
