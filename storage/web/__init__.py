"""Web servers: requests and downloads, with retries, timeouts and limits per host.

May import `errors` and `access`. Front door: `requests`.
"""
