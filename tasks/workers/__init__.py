"""Threads and processes that compute results ahead of their use.

May import no other room.
"""
