"""What libtiff says of damaged files: it writes that to the terminal itself, past Python.

Pillow brings the library and leaves its handlers as they are. They are replaced by one that passes
a message on to somebody, where the process runs on Linux and has the library; elsewhere all stays
as it is.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from PIL import Image  # noqa: F401 - loads the libraries that Pillow needs

_MAPS: Final = Path("/proc/self/maps")
# Of libtiff: module, format, and what belongs into it, which is never looked at.
_HANDLER: Final = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
_kept: Final[list[Any]] = []  # for the library, which doesn't


def watch_libtiff(heard: Callable[[], bool]) -> None:
    """Let somebody hear of libtiff's messages, in the thread in which they come.

    Args:
        heard: called for each; false: it is printed as ever.
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
        handler = _handler(heard, _HANDLER(before) if before else None)
        replace(ctypes.cast(handler, ctypes.c_void_p))
        _kept.append(handler)


def _handler(heard: Callable[[], bool], before: Any) -> Any:
    def handle(module: bytes, text: bytes, values: int) -> None:
        if not heard() and before is not None:
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
