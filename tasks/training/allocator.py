"""Settings of glibc's allocator for trainings on a CPU.

Every step of a training takes the same large pieces of memory and gives them up. By default glibc
returns them to the system, which has to clear every page again at the next step. The settings
change no number, only where its memory comes from.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from typing import Final

_TRIM_THRESHOLD: Final = -1
_MMAP_MAX: Final = -4
# Of `mallopt`, which takes a C int.
_MOST: Final = 2**31 - 1

# Free memory at the heap's end is kept, up to 2 GiB; and no piece is mapped by itself, which would
# be unmapped when it is free. Each alone makes it worse: glibc then no longer adapts the size from
# which it maps. That size can't be set instead: it may be 32 MiB at most, less than many tensors.
_SETTINGS: Final = ((_TRIM_THRESHOLD, _MOST), (_MMAP_MAX, 0))

# Variables by which a user sets the same.
_VARIABLES: Final = (
    "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_TOP_PAD_",
)  # fmt: skip
_TUNABLES: Final = "GLIBC_TUNABLES"


def keep_freed_memory(device: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Have this process keep freed memory for its next allocations, up to 2 GiB, until it ends.

    Does nothing for a training on a GPU, without glibc, and where the environment has settings of
    the user's own (`MALLOC_TRIM_THRESHOLD_` and the like, or `glibc.malloc` in `GLIBC_TUNABLES`).

    Args:
        device: type of the device of the network that is trained, `cpu` or `cuda`.
        environment: variables of the process.

    Returns:
        Whether the settings were made.
    """
    if device != "cpu" or _chosen_by_user(environment) or not _has_glibc():
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(*setting) == 1 for setting in _SETTINGS)


def _chosen_by_user(environment: Mapping[str, str]) -> bool:
    return any(environment.get(name) for name in _VARIABLES) or (
        "glibc.malloc." in environment.get(_TUNABLES, "")
    )


def _has_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError, OSError):  # of other systems and libraries
        return False
