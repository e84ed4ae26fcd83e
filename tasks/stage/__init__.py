"""What every stage has in common: its contract, names of files, models, what is covered, stopping.

May import no other room. Front door: `contract`.
"""
