"""Shared by all stages: the contract, file names, models, coverage, cancellation.

May import no other room. Front door: `contract`.
"""
