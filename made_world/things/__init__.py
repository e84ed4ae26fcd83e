"""What the world is made of: kinds of things and the parts of each, and distractors.

May import `drawing`. Front door: `kinds`.
"""
