"""Images of the world: things placed on backgrounds, with the truth of every pixel, and captions.

May import `things` and `drawing`. Front door: `pictures`.
"""
