local S = subject(ARGV[5])
return S and { S.st, S.le, S.ke }
