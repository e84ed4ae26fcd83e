"""Baselines: the reference implementations' order of operations, to be timed beside ours."""
