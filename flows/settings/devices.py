"""Devices by name, and whether this machine can compute on them."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from storage.errors.exceptions import ConfigError

_NAMES = re.compile(r"auto|cpu|cuda(:\d{1,3})?")
_DEVICE_FILES = ("/dev/nvidiactl", "/dev/dxg")


def choose_device(device: str) -> str:
    """`auto` becomes `cuda` where a GPU can be used.

    Asking torch takes seconds, so a machine without a GPU's device file is not asked: a cached
    build must not load torch. For the same reason a device that is named is not looked for here:
    see `require_device`.

    Raises:
        ConfigError: there is no device of such a name.
    """
    if not _NAMES.fullmatch(device):
        raise ConfigError(f"device is {device!r}: choose auto, cpu, cuda or cuda:N.")
    if device != "auto":
        return device
    if _hidden() or not _has_device_file():
        return "cpu"
    import torch

    with warnings.catch_warnings(action="ignore"):  # a driver too old: the CPU will do
        return "cuda" if torch.cuda.is_available() else "cpu"


def require_device(device: str) -> str:
    """`choose_device`, and make sure, before any work, that this machine can compute there.

    Args:
        device: auto, cpu, cuda or cuda:N.

    Raises:
        ConfigError: there is no such device, or it can't be used; the sentence says why.
    """
    device = choose_device(device)
    if device == "cpu":
        return device
    if _hidden():
        raise _unusable(device, "CUDA_VISIBLE_DEVICES hides all GPUs")
    if not _has_device_file():
        raise _unusable(device, "this machine has no GPU, or no driver for it")
    import torch

    with warnings.catch_warnings(action="ignore"):
        usable = torch.cuda.is_available()
        count = torch.cuda.device_count() if usable else 0
    if not usable:
        raise _unusable(device, _reason_of_torch())
    number = int(device.partition(":")[2] or 0)
    if number >= count:
        raise _unusable(device, f"torch finds {count} here, numbered from 0")
    return device


def devices_of(config: Any) -> Iterator[str]:
    """The devices that a stage's configuration names, anywhere in it."""
    for field in fields(config):
        value = getattr(config, field.name)
        if field.name == "device":
            yield value
        elif is_dataclass(value):
            yield from devices_of(value)


def _unusable(device: str, why: str) -> ConfigError:
    return ConfigError(f"device is {device} and can't be used: {why}. Use --device cpu, or auto.")


def _reason_of_torch() -> str:
    """Why torch can't use CUDA, such as a driver that is too old."""
    import torch

    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except Exception as error:  # torch raises RuntimeError, AssertionError and others
        return " ".join(str(error).split()).split(". ")[0].rstrip(".") or type(error).__name__
    return "torch finds no GPU"


def _hidden() -> bool:
    return os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")


def _has_device_file() -> bool:
    return any(Path(file).exists() for file in _DEVICE_FILES)
