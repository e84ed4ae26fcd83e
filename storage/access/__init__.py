"""Access control: roots and protocols that may be read and written, and secrets in addresses.

May import `errors`. Front door: `roots`.
"""
