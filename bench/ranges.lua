-- For wrk: ranges of 16 KiB at random places of the file's first GiB, the same sequence in each run.
local span, length = 1024 * 1024 * 1024 - 65536, 16384
math.randomseed(1)

request = function()
  local from = math.random(0, span)
  return wrk.format("GET", nil, { ["Range"] = "bytes=" .. from .. "-" .. (from + length - 1) })
end
