"""Stages, builds, commands and trainings that run on the stand-ins."""
