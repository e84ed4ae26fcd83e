"""Annotations as files have them, label maps or COCO JSON, and the evaluation set made of them.

May import `images`, `vocabularies`, `artifacts` (digests), `files`. Front door: `evaluation_set`.
"""
