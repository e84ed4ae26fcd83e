"""From outlines to pixels: random choices, noise, shapes, parts, colours, painting.

May import nothing of ours.
"""
