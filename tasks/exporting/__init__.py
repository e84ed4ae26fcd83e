"""What of a build is handed over: which labels, in which splits, under which ids, to which folder.

Imports `stage`, `prediction` and `packing`; the front door is `contents.py`.
"""
