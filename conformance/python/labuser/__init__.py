"""A user model of one's own, as django-rest-authtoken asks for where mail addresses are confirmed."""
