"""Training a small CLIP on images with captions, as the demonstration's was.

May import `training` (its timed schedule), `categories`. Front door: `phases`.
"""
