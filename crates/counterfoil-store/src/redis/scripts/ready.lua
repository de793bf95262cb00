-- That it has begun says that it could write: the server refuses it where it cannot.
return 1
