"""Errors that stop a command, reject reasons that are counted, and checks of numbers.

May import nothing of ours. Front door: `exceptions.ZutisError`.
"""
