"""SelfMask (Shin et al. 2022): the network, its losses, and the votes for its pseudo-labels.

May import `layers`. Front door: `selfmask`.
"""
