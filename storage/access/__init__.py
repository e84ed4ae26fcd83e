"""Which addresses may be read and written: roots, protocols, and secrets that are shown to nobody.

May import `errors`. Front door: `roots`.
"""
