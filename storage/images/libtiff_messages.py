"""libtiff's messages about damaged files, which it would write to the terminal past Python.

Pillow brings the library and leaves its handlers as they are. They are replaced by one that passes
messages to a callback, where the process runs on Linux and has the library; elsewhere nothing
changes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from PIL import Image  # noqa: F401 - loads the libraries that Pillow needs

_MAPS: Final = Path("/proc/self/maps")
# libtiff's handler: module, format, and the format's arguments, which are never read.
_HANDLER: Final = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
_kept: Final[list[Any]] = []  # references for the library, which keeps none


def watch_libtiff(callback: Callable[[], bool]) -> None:
    """Call a function for libtiff's messages, in the thread in which they come.

    Args:
        callback: called for each message; if it returns false, the message is printed as before.
    """
    library = _loaded_library()
    if library is None or _kept:
        return
    for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
        replace = getattr(library, name, None)
        if replace is None:
            continue
        replace.argtypes, replace.restype = [ctypes.c_void_p], ctypes.c_void_p
        # First none, to know which one was there.
        before = replace(None)
        handler = _handler(callback, _HANDLER(before) if before else None)
        replace(ctypes.cast(handler, ctypes.c_void_p))
        _kept.append(handler)


def _handler(callback: Callable[[], bool], before: Any) -> Any:
    def handle(module: bytes, text: bytes, values: int) -> None:
        if not callback() and before is not None:
            before(module, text, values)

    return _HANDLER(handle)


def _loaded_library() -> ctypes.CDLL | None:
    """The libtiff that Pillow has brought into the process; None where there is none."""
    try:
        lines = _MAPS.read_text().splitlines()
        paths = {line.split(maxsplit=5)[-1] for line in lines if "/libtiff" in line}
        return ctypes.CDLL(paths.pop()) if len(paths) == 1 else None
    except OSError:  # no Linux, or no right to look
        return None
