"""Versions of the software that an artifact was made with."""

from __future__ import annotations

import contextlib
import platform
from functools import cache
from importlib import metadata

_PACKAGES = ("zutis", "numpy", "torch", "open_clip_torch", "timm", "faiss-gpu", "faiss-cpu",
             "pillow", "pyarrow", "scipy", "webdataset", "prefect")  # fmt: skip


@cache
def software_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide results, read without importing them."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions
