"""ZUTIS (Shin et al. 2023): the network, its semantic and instance predictions.

May import `clip` and `layers`. Front door: `network`.
"""
