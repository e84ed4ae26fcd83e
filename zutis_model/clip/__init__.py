"""CLIP and SigLIP on open_clip: image and text towers, dense tokens, architectures of our own.

May import `layers`. Front door: `towers`.
"""
