"""Images of the made world: objects placed on backgrounds, their exact masks, and captions.

May import `things` and `drawing`. Front door: `images`.
"""
