"""Real photographs for benchmarks, and copies of them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

_COCO128 = Path("coco128", "images")
_EXTENSIONS = (".jpg", ".jpeg", ".png")


def add_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--photographs",
        type=Path,
        metavar="DIR",
        help="folder of photographs (default: coco128 of ZUTIS_TEST_DATA or ../shared/data, else "
        "those that scikit-image brings)",
    )


def find(folder: Path | None, most: int | None = None) -> list[Path]:
    """Photographs that can be used, sorted by name.

    Args:
        folder: where to look; None for the default.
        most: how many at most.

    Raises:
        SystemExit: there is none.
    """
    folder = folder or _default_folder()
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in _EXTENSIONS)
    photographs = [path for path in files if _is_photograph(path)][:most]
    if not photographs:
        raise SystemExit(f"{folder} holds no photograph: name another folder with --photographs.")
    return photographs


def write_copies(photographs: Sequence[Path], folder: Path, count: int) -> list[Path]:
    """`count` different files in a new folder, taking the photographs in turn; their paths.

    From the second round on, bytes after the end of the image make a file of its own of each:
    another image_id, at the same cost of decoding.
    """
    folder.mkdir(parents=True)
    written = []
    for number in range(count):
        source = photographs[number % len(photographs)]
        copy = number // len(photographs)
        path = folder / f"{copy:05d}-{source.name}"
        path.write_bytes(source.read_bytes() + (copy.to_bytes(4, "big") if copy else b""))
        written.append(path)
    return written


def _default_folder() -> Path:
    named = os.environ.get("ZUTIS_TEST_DATA")
    data = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if (data / _COCO128).is_dir():
        return data / _COCO128
    import skimage

    return Path(skimage.__file__).parent / "data"


def _is_photograph(path: Path) -> bool:
    from storage.errors.exceptions import ImageRejected
    from storage.images.decoding import decode

    try:
        decoded = decode(path.read_bytes())
    except ImageRejected:
        return False
    return not decoded.conversion and min(decoded.height, decoded.width) >= 224
