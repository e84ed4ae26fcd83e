"""The labels of samples with several objects: what each of an image's objects is called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from storage.artifacts.store import ArtifactRef, ArtifactStore
from storage.images.records import read_parquet
from tasks.stage.layout import CHOSEN_LABELS, NAMED_OBJECTS

QUALITY: Final = ("quality", "category_probability", "estimated_iou")
"""Columns of labels that were judged."""

_NAMELESS: Final = "no_category"

OBJECT: Final = pa.struct(
    [
        ("mask_id", pa.string()),
        ("category_id", pa.int32()),
        ("name", pa.string()),
        ("name_probability", pa.float32()),
        *((name, pa.float32()) for name in QUALITY),
    ]
)
"""`category_id` is 0, and `name` empty, of an object that stands out and has no clear name, or of
which the label was left out: its pixels are to be ignored. The quality is empty where labels were
not judged."""


def objects_by_image(
    named: ArtifactRef, chosen: ArtifactRef | None, store: ArtifactStore
) -> dict[str, list[dict[str, Any]]]:
    """The objects of each image that has one with a label: those with labels first, each from the
    surest name on.

    Args:
        named: of `name_objects`.
        chosen: of `choose_labels`, where labels were chosen.

    Returns:
        By image_id, objects (`OBJECT`) with `rank` and `score` of the retrieval.
    """
    with store.get(named).open(NAMED_OBJECTS) as file:
        rows = read_parquet(file).to_pylist()
    judged = None if chosen is None else _judged(chosen, store)
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["reason"] in ("", _NAMELESS):
            found.setdefault(row["image_id"], []).append(_object(row, judged))
    for objects in found.values():
        objects.sort(
            key=lambda each: (not each["category_id"], -each["name_probability"], each["mask_id"])
        )
    return {image_id: each for image_id, each in found.items() if each[0]["category_id"]}


def is_judged(chosen: ArtifactRef | None, store: ArtifactStore) -> bool:
    """Whether chosen labels have a quality."""
    return chosen is not None and "labels" in store.get(chosen).manifest["inputs"]


_Judged = dict[tuple[str, str], dict[str, Any]]


def _judged(chosen: ArtifactRef, store: ArtifactStore) -> _Judged:
    """The kept labels' quality by image_id and mask_id; empty values where there is none."""
    with store.get(chosen).open(CHOSEN_LABELS) as file:
        table = read_parquet(file)
    kept = table.filter(table["kept"]).to_pylist()
    return {
        (row["image_id"], row["mask_id"]): {name: row.get(name) for name in QUALITY} for row in kept
    }


def _object(row: Mapping[str, Any], judged: _Judged | None) -> dict[str, Any]:
    nothing = dict.fromkeys(QUALITY)
    quality = nothing if judged is None else judged.get((row["image_id"], row["mask_id"]))
    labelled = not row["reason"] and quality is not None
    return {
        "mask_id": row["mask_id"],
        "category_id": row["category_id"] if labelled else 0,
        "name": row["category"] if labelled else "",
        "name_probability": row["name_probability"],
        **(quality or nothing),
        "rank": row["rank"],
        "score": row["score"],
    }


def categories_of(
    objects: Sequence[Mapping[str, Any]], external_ids: Mapping[int, str], *, judged: bool
) -> list[dict[str, Any]]:
    """The categories of an image's objects, those that it was retrieved for first, each from the
    surest name on: what a sample's `labels` are. Rank and score are empty where it was not.

    Args:
        objects: in the order of `objects_by_image`.
        external_ids: of the vocabulary, by category_id.
        judged: whether labels have a quality, of which each category has its best object's.
    """
    labelled = [each for each in objects if each["category_id"]]
    labelled.sort(key=lambda each: each["rank"] is None)
    best = {each["category_id"]: each for each in reversed(labelled)}
    return [
        {
            "category_id": number,
            "name": best[number]["name"],
            "external_id": external_ids[number],
            "rank": best[number]["rank"],
            "score": best[number]["score"],
            **({name: best[number][name] for name in QUALITY} if judged else {}),
        }
        for number in dict.fromkeys(each["category_id"] for each in labelled)
    ]


def painted(
    masks: Iterable[tuple[int, np.ndarray]], shape: tuple[int, int], ignored: int
) -> np.ndarray:
    """The label map of objects, uint16 [h, w]; the earlier ones hide the later ones.

    Args:
        masks: category_id and mask, bool [h, w], of each object; 0 of those to be ignored.
        shape: h and w.
        ignored: the ignore label.
    """
    label_map = np.zeros(shape, dtype=np.uint16)
    for category_id, mask in reversed(list(masks)):
        label_map[mask] = category_id or ignored
    return label_map
