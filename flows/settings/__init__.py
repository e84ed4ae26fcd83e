"""Every setting of builds, trainings and evaluations: its name, type, bounds and default.

May import no other room.
"""
