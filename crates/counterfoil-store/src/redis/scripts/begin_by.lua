-- ARGV: the tally.
if not M[1] then begin(ARGV[5]) end
return 0
