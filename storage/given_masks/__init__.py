"""Masks that users bring: corrected or exported files of other tools, and folders of PNGs.

Imports corrections, annotations and given_embeddings' names. Front door: `source.open_given_masks`.
"""
