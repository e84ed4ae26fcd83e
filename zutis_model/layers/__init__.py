"""What networks are made of: layers, positions, precision, compilation; loading of weights.

May import nothing of ours.
"""
