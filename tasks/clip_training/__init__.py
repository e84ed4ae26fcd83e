"""Training of a small CLIP, such as the demonstration's, on images with captions.

May import `training` (its timed schedule), `categories`. Front door: `phases`.
"""
