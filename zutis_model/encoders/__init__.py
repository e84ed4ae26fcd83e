"""Patch features other than CLIP's: small vision transformers, colours.

May import `layers`.
"""
