"""What goes wrong, in words: errors that stop a command, reasons that are counted, bad numbers.

May import nothing of ours. Front door: `exceptions.ZutisError`.
"""
