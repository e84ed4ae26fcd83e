"""What Python compiles is kept from here on, whatever the environment says.

Tests start hundreds of processes that import the same thousands of modules.
"""

import os
import sys

sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
