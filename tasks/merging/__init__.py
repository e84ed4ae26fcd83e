"""Data sets of several builds made one, under one vocabulary.

May import `packing` and what lies below it. Front door: the stage `merge_datasets`.
"""
