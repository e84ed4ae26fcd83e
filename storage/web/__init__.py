"""Web servers: requests and whole files, with the patience that strangers' servers need.

May import `errors` and `access`. Front door: `requests`.
"""
