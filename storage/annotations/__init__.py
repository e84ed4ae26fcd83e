"""Ground truth: label maps and COCO annotations, and the evaluation sets made of them.

May import `images`, `vocabularies`, `artifacts` (digests), `files`. Front door: `evaluation_set`.
"""
