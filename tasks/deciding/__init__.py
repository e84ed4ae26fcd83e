"""What people decided about labels: joined with a build's, and what it says of all of them.

Imports `stage` and `quality`; the front door is the stage in `import_decisions.py`.
"""
