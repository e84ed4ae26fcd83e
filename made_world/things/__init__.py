"""The made world's kinds of objects and how each is drawn, and distractors.

May import `drawing`. Front door: `kinds`.
"""
