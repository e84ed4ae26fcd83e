"""This process and its children: signals that end it, programs that end with it, safe paths.

May import no other room.
"""
