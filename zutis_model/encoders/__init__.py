"""Features of patches that are not CLIP's: small vision transformers, colours.

May import `layers`.
"""
