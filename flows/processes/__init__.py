"""This process and its children: signals, programs that end with their parent, safe paths.

May import no other room.
"""
