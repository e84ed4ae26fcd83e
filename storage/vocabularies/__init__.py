"""Vocabularies: categories with names, prompts and splits, shipped or a user's own.

May import `files` and the rooms below it. Front door: `vocabulary.load_vocabulary`.
"""
