if not M[1] then return false end
return { TALLY, M[5] and 1 or 0 }
