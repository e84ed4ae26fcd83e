"""Processes that tests start, watch on terminals, and share between pytest's workers."""
