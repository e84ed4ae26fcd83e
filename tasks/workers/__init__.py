"""Threads and processes that work ahead of whoever uses their results.

May import no other room.
"""
