"""Importing this module lets Python write compiled modules, even if the environment forbids it.

Tests start hundreds of processes that import the same thousands of modules.
"""

import os
import sys

sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
