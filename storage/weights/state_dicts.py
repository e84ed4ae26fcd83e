"""Safe reading of weight files: no code in them is run."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from storage.access.roots import open_file_path, roots
from storage.errors.exceptions import WeightsError
from storage.files.user_files import WEIGHTS, open_limited

if TYPE_CHECKING:
    from torch import Tensor


def load_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a file of weights without running any code in it.

    Args:
        path: `.safetensors`, or a file of `torch.save`. A state dict inside `{"state_dict": ...}`
            or `{"model": ...}` is unwrapped, and a `module.` before every name is dropped.

    Returns:
        Parameter name to tensor, on the CPU, with the file's dtypes.

    Raises:
        WeightsError: the file is missing or damaged, is a TorchScript archive, holds other objects
            than tensors, or holds no state dict.
    """
    require_weights(path)
    with _held(path) as place:
        read = _read_safetensors if _is_safetensors(path) else _read_pickle
        content = read(path, place)
    return _state_dict(path, content)


@contextmanager
def _held(path: Path) -> Iterator[Path]:
    """A path by which libraries open this file: with roots, the very file that was checked, also if
    its name changes meaning."""
    if roots() is None:
        yield path
        return
    with open_limited(path, WEIGHTS) as file:
        yield Path(open_file_path(file.fileno(), str(path)))


def require_weights(path: Path) -> None:
    """Check by a file's first bytes that it is one of weights: hashing gigabytes of another file
    would take long.

    Raises:
        WeightsError: it isn't, or can't be read.
    """
    try:
        found = looks_like_weights(path)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError) as error:
        raise WeightsError(f"There is no weights file {path}; check the path.") from error
    except OSError as error:
        raise WeightsError(f"The weights file {path} can't be read: {error.strerror}.") from error
    if not found:
        raise WeightsError(
            f"{path} is no file of weights (neither safetensors nor what torch.save writes), or"
            f" its beginning is damaged; download it again."
        )


def _is_safetensors(path: Path) -> bool:
    return path.suffix.lower() == ".safetensors"


def looks_like_weights(path: Path) -> bool:
    """Whether a file begins as safetensors or as anything that `torch.save` has ever written."""
    with open_limited(path, WEIGHTS) as file:
        head = file.read(9)
    # torch.save writes a zip, long ago a bare pickle; safetensors has 8 bytes of length, then JSON.
    return head.startswith((b"PK\x03\x04", b"\x80")) or head[8:9] == b"{"


def _read_safetensors(path: Path, place: Path) -> object:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(place)
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path} is not a complete safetensors file ({error}); download it again."
        ) from error


def _read_pickle(path: Path, place: Path) -> object:
    if _is_torchscript(path, place):
        raise WeightsError(
            f"{path} is a TorchScript archive, which holds a program and not only weights; give a"
            f" safetensors file or a state dict. OpenAI's CLIP is there as such: `zutis weights"
            f" fetch ViT-B-32-quickgelu:openai`."
        )
    import torch

    try:
        return torch.load(place, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} holds other objects than tensors, and reading those could run code; if you"
            f" trust its source, load it there and save its state dict as safetensors."
        ) from error
    except MemoryError:  # the machine's fault, not the file's
        raise
    except Exception as error:  # of damaged files torch's unpickler raises nearly every type
        raise _damaged(path) from error


def _is_torchscript(path: Path, place: Path) -> bool:
    if not zipfile.is_zipfile(place):
        return False
    try:
        with zipfile.ZipFile(place) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise _damaged(path) from error
    # TARGET/constants.pkl is in every TorchScript archive and in nothing of torch.save's.
    return any(name.partition("/")[2] == "constants.pkl" for name in names)


def _damaged(path: Path) -> WeightsError:
    return WeightsError(f"{path} is damaged or incomplete; download it again.")


def _state_dict(path: Path, content: object) -> dict[str, Tensor]:
    from torch import Tensor

    for wrapper in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not content:
        raise WeightsError(f"{path} holds no state dict; give a file with named tensors.")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise WeightsError(
                f"{path} holds no plain state dict: {name!r} is a {type(value).__name__}, not a"
                f" tensor; save the model's state_dict() and give that."
            )
    prefix = "module."  # left there by torch's DataParallel
    if all(name.startswith(prefix) for name in content):
        return {name.removeprefix(prefix): value for name, value in content.items()}
    return dict(content)
