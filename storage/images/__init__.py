"""Decoding of images to 8-bit RGB or a reject reason, in bounded memory; image records.

May import `files` and the rooms below it. Front door: `decoding`.
"""
