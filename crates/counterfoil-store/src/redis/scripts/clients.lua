local rows = {}
for _, c in ipairs(call('HVALS', R .. 'cn')) do
  local C = client(c)
  if C then rows[#rows + 1] = client_record(c, C) end
end
return rows
