"""SelfMask (Shin et al. 2022): the network, its losses, and the votes that its labels are made by.

May import `layers`. Front door: `selfmask`.
"""
