"""Formats of other tools that a build is exported to, a module each.

Imports `exporting`, `mask_forms` and what lies below them; the front door is `registry.py`.
"""
