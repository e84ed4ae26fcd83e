"""From an image's bytes to 8-bit RGB or a counted reject, in bounded memory; and image records.

May import `files` and what lies below it. Front door: `decoding`.
"""
