"""File access: URIs in, bytes out, foreign errors translated; durable writing.

May import `errors`, `access` and `web`. Front door: `filesystems`.
"""
