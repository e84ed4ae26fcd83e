"""Tiny data sets in the layouts of published evaluation data sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image


def write_image(path: Path, size: tuple[int, int], seed: int = 0, **options: Any) -> None:
    """An image (height, width) of noise; a PNG keeps its pixels, a JPEG only approximately."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def write_map(path: Path, values: ArrayLike, mode: str = "L") -> None:
    """A file of numbers `[h, w]`, or of colours `[h, w, 3]` for mode RGB."""
    dtype = np.uint16 if mode == "I;16" else np.uint8
    image = Image.fromarray(np.asarray(values, dtype=dtype))
    if mode == "P":
        image = image.convert("P")
        image.putdata(np.asarray(values).ravel().tolist())
        image.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def box(top: int, left: int, bottom: int, right: int) -> list[list[float]]:
    """COCO's polygon of the pixels `[top:bottom, left:right]`."""
    return [[left, top, right, top, right, bottom, left, bottom]]


def runs(mask: ArrayLike) -> dict[str, Any]:
    """COCO's uncompressed run lengths: columns, beginning with the zeros."""
    flat = np.asarray(mask, dtype=bool).ravel(order="F")
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat, [False]])))
    lengths = np.diff(np.concatenate([[0], edges])).tolist()
    if (rest := flat.size - sum(lengths)) > 0:
        lengths.append(rest)
    return {"size": list(np.shape(mask)), "counts": lengths}


def annotation(image_id: int, category_id: int, segmentation: Any, **fields: Any) -> dict[str, Any]:
    """One of COCO's `annotations`."""
    return {
        "image_id": image_id, "category_id": category_id, "segmentation": segmentation,
        "area": 1.0, "iscrowd": 0, **fields,
    }  # fmt: skip


def write_coco(
    file: Path,
    images_folder: Path,
    images: dict[str, tuple[int, int]],
    annotations: list[dict[str, Any]],
    categories: dict[int, str],
) -> dict[str, Any]:
    """A JSON file and its images, numbered from 1 in the order given; returns the document."""
    document = {
        "info": {"description": "tiny"},
        "licenses": [{"id": 1, "name": "none", "url": ""}],
        "images": [
            {"id": number, "file_name": name, "height": size[0], "width": size[1], "license": 1}
            for number, (name, size) in enumerate(images.items(), 1)
        ],
        "annotations": [{"id": number, **each} for number, each in enumerate(annotations, 1)],
        "categories": [{"id": number, "name": name} for number, name in categories.items()],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document))
    for seed, (name, size) in enumerate(images.items()):
        write_image(images_folder / name, size, seed)
    return document
