"""Formats of other tools that a build is exported to, a module each, and outlines of masks.

Imports `exporting` and what lies below it; the front door is `registry.py`.
"""
