"""What people decide about labels: the file, its lines, and what they come to.

Imports `errors`, `files`, `artifacts` and `images`; the front door is `decision_file.py`.
"""
