"""A Django site around one package with one set of settings: what `../lab.py` starts, and recordings are made from."""
