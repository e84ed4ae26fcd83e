"""The order of operations that the reference implementations have, to be timed beside ours."""
