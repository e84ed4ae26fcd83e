"""Building blocks of networks: layers, positions, precision, compilation, loading of weights.

May import nothing of ours.
"""
