"""From outlines to pixels: dice, noise, shapes, parts, colours, painting.

May import nothing of ours.
"""
