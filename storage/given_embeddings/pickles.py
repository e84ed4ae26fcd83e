"""The pickles of the authors of ReCo and ZUTIS: a dictionary from file names to embeddings.

A pickle is a program. This reads the few instructions that tensors, arrays and dictionaries consist
of, by functions of its own, and refuses a file that asks for anything else; nothing of the file is
imported or called.

Dimensions:
    d  width of an embedding
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from storage.errors.exceptions import CorpusError
from storage.files.filesystems import display
from storage.files.regular_files import open_regular

_ROWS_AT_ONCE: Final = 16_384
_NUMPY_CORES: Final = ("numpy.core", "numpy._core")


def blocks_of(path: Path) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
    """Names and rows float32 [at most 16,384, d] of a pickle, in its order.

    The whole file is held in memory.

    Raises:
        CorpusError: it is no such dictionary, or holds more than numbers.
    """
    found = _dictionary(path)
    names = list(found)
    width = len(found[names[0]]) if names else 0
    for start in range(0, len(names), _ROWS_AT_ONCE):
        chosen = names[start : start + _ROWS_AT_ONCE]
        rows = np.empty((len(chosen), width), np.float32)
        for row, name in zip(rows, chosen, strict=True):
            if found[name].shape != (width,):
                raise CorpusError(
                    f"{display(str(path))} holds embeddings of several widths: {width} and "
                    f"{' x '.join(map(str, found[name].shape))}."
                )
            row[:] = found[name]
        yield chosen, rows


def _dictionary(path: Path) -> dict[str, NDArray[Any]]:
    with open_regular(path) as file:
        try:
            found: Any = _NumbersOnly(file).load()
        except _Refused as error:
            raise CorpusError(
                f"{display(str(path))} asks for {error}, and is not read: a file of embeddings "
                "holds names and numbers, nothing else."
            ) from error
        except Exception as error:  # damaged bytes may make any instruction fail
            raise CorpusError(
                f"{display(str(path))} can't be read as a pickle ({type(error).__name__}: {error})."
            ) from error
    is_right = isinstance(found, dict) and all(
        isinstance(name, str) and isinstance(row, np.ndarray) and row.dtype.kind == "f"
        for name, row in found.items()
    )
    if not is_right or not found:
        raise CorpusError(
            f"{display(str(path))} is no dictionary from file names to embeddings, as "
            "filename_to_ViT_L_14_336px_img_embedding.pkl is one."
        )
    return dict(found)


class _Refused(Exception):  # noqa: N818 - an answer about a file
    """A pickle asks for something that is neither a name nor a number."""


class _NumbersOnly(pickle.Unpickler):
    """Reads pickles of dictionaries, arrays and CPU tensors."""

    def find_class(self, module: str, name: str) -> Any:
        found = _KNOWN.get((module, name))
        if found is None:
            raise _Refused(f"{module}.{name}")
        return found

    def persistent_load(self, _pid: Any) -> Any:
        raise _Refused("an object of another file")


def _storage(data: bytes) -> NDArray[Any]:
    """A tensor's numbers [m], which torch has saved as a file within the file."""
    import torch

    storage = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return torch.empty(0, dtype=storage.dtype).set_(storage).float().numpy()


def _tensor(
    storage: NDArray[Any], offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> NDArray[np.float32]:
    if len(size) != 1 or stride not in ((1,), (0,)) or not 0 <= offset <= len(storage) - size[0]:
        raise ValueError(f"a tensor of size {size}, not a row of numbers")
    return np.array(storage[offset : offset + size[0]], np.float32)


def _empty_array(kind: type, shape: tuple[int, ...], code: bytes) -> NDArray[Any]:
    """What numpy makes before it fills an array."""
    if kind is not np.ndarray:
        raise ValueError("an array of a kind of its own")
    return np.ndarray(shape, code.decode("ascii"))


def _array_of(buffer: bytes, dtype: Any, shape: tuple[int, ...], order: str) -> NDArray[Any]:
    """An array of a pickle of protocol 5."""
    return np.frombuffer(buffer, dtype).reshape(shape, order="F" if order == "F" else "C")


def _bytes_of(text: str, encoding: str) -> bytes:
    """Bytes as pickles of protocol 2 spell them."""
    if encoding != "latin1":
        raise _Refused(f"the encoding {encoding}")
    return text.encode("latin1")


_KNOWN: Final[dict[tuple[str, str], Any]] = {
    ("_codecs", "encode"): _bytes_of,
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    **{(f"{core}.multiarray", "_reconstruct"): _empty_array for core in _NUMPY_CORES},
    **{(f"{core}.numeric", "_frombuffer"): _array_of for core in _NUMPY_CORES},
}
