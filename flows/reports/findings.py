"""What is worth a look in a build: conflicts, near-duplicates, images and labels left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.builds.found import FoundBuild
from flows.reports.parts import Gallery, Note
from flows.reports.reasons import in_words
from flows.reports.thumbnails import Budget, Pictures
from storage.artifacts.store import Artifact
from storage.files.filesystems import display
from storage.images.records import read_parquet
from tasks.duplicates import find_duplicates, import_duplicates
from tasks.indexing import embed_images, scan
from tasks.masking import make_masks
from tasks.quality import choose_labels
from tasks.stage.layout import CHOSEN_LABELS, DUPLICATES, MASKS, REJECTS, RETRIEVAL

_CONFLICTS: Final = 48
_PAIRS: Final = 30
_WANTED_BY: Final = 3
_GROUPS: Final = 24
_OF_A_GROUP: Final = 6
_OF_A_REASON: Final = 12
_NAMES: Final = 20


def conflicts(
    build: FoundBuild, pictures: Pictures, budget: Budget
) -> tuple[tuple[Note, ...], Gallery | None]:
    """Images that several categories wanted.

    Returns:
        The pairs of categories that most often want the same images, and the images for which it
        was closest; nothing where each image is wanted by one.

    Raises:
        ArtifactError: a file is missing or damaged.
    """
    columns = ["image_id", "category", "probability", "margin", "kept"]
    with build.retrieval.open(RETRIEVAL) as file:
        rows = read_parquet(file, columns=columns)
    wanted = rows.group_by("image_id").aggregate([("category", "count"), ("kept", "any")])
    several = wanted.filter(pc.greater(wanted["category_count"], 1))
    if not several.num_rows:
        return (), None
    contested = rows.filter(pc.is_in(rows["image_id"], value_set=several["image_id"]))
    held = contested.filter(contested["kept"]).sort_by(
        [("margin", "ascending"), ("image_id", "ascending")]
    )
    closest = list(dict.fromkeys(held["image_id"].to_pylist()))[:_CONFLICTS]
    shown = contested.filter(pc.is_in(contested["image_id"], value_set=pa.array(closest)))
    by_image: dict[str, list[dict[str, Any]]] = {}
    for row in shown.to_pylist():
        by_image.setdefault(row["image_id"], []).append(row)
    captions = [_wanted_by(by_image[image_id]) for image_id in closest]
    gallery = Gallery(
        title="Closest",
        note=(
            f"{several.num_rows:,} images are wanted by several categories. Shown are those whose"
            " category leads by least; the share is the category's probability."
        ),
        thumbnails=pictures.of_images(closest, captions, budget),
    )
    return _pairs(contested), gallery


def _wanted_by(rows: Sequence[Mapping[str, Any]]) -> str:
    """Who has the image, and who else wanted it."""
    ordered = sorted(rows, key=lambda row: (not row["kept"], -row["probability"], row["category"]))
    said = [f"{row['category']} {row['probability']:.0%}" for row in ordered[:_WANTED_BY]]
    more = len(ordered) - _WANTED_BY
    return ", not ".join(said) + (f", and {more} more" if more > 0 else "")


def _pairs(contested: pa.Table) -> tuple[Note, ...]:
    """The pairs of categories that want most of the same images."""
    codes = contested["category"].combine_chunks().dictionary_encode()
    names = codes.dictionary.to_pylist()
    images = contested["image_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    order = np.argsort(images, kind="stable")
    category = codes.indices.to_numpy()[order]
    ends = np.flatnonzero(np.diff(images[order])) + 1
    counts: Counter[tuple[int, int]] = Counter()
    for own in np.split(category, ends):
        few = np.unique(own)[:_OF_A_REASON].tolist()  # pairs grow with the square
        counts.update((a, b) for at, a in enumerate(few) for b in few[at + 1 :])
    first = sorted(counts.items(), key=lambda each: (-each[1], each[0]))[:_PAIRS]
    return tuple(Note(name=f"{names[a]} / {names[b]}", words=f"{n:,}") for (a, b), n in first)


def duplicates(build: FoundBuild, pictures: Pictures, budget: Budget) -> tuple[Gallery, ...]:
    """The largest groups of near-duplicates, a gallery each; none where they were not looked for.

    Raises:
        ArtifactError: a file is missing or damaged.
    """
    found = build.one(find_duplicates.NAME) or build.one(import_duplicates.NAME)
    if found is None:
        return ()
    with found.open(DUPLICATES) as file:
        rows = read_parquet(file, columns=["image_id", "group"]).to_pylist()
    groups: dict[str, list[str]] = {}
    for row in rows:
        groups.setdefault(row["group"], []).append(row["image_id"])
    largest = sorted(groups.items(), key=lambda each: (-len(each[1]), each[0]))[:_GROUPS]
    return tuple(
        Gallery(
            title=f"Group {number}",
            note=f"{len(images):,} images",
            thumbnails=pictures.of_images(
                sorted(images)[:_OF_A_GROUP], [""] * min(len(images), _OF_A_GROUP), budget
            ),
        )
        for number, (_, images) in enumerate(largest, start=1)
    )


def rejected(build: FoundBuild, pictures: Pictures, budget: Budget) -> tuple[Gallery, ...]:
    """What was left out, a gallery for each reason: labels, images without a mask, and files.

    Raises:
        ArtifactError: a file is missing or damaged.
    """
    return (
        *_rejected_labels(build, pictures, budget),
        *_rejected_masks(build, pictures, budget),
        *_rejected_files(build),
    )


def _rejected_labels(build: FoundBuild, pictures: Pictures, budget: Budget) -> Iterator[Gallery]:
    chosen = build.one(choose_labels.NAME)
    if chosen is None:
        return
    with chosen.open(CHOSEN_LABELS) as file:
        table = read_parquet(file)
    left_out = table.filter(pc.invert(table["kept"]))
    if "quality" in left_out.column_names:
        left_out = left_out.sort_by([("quality", "descending"), ("image_id", "ascending")])
    for reason, rows in _by_reason(left_out, "reason"):
        few = _spread(rows)
        captions = [f"{row['category']}{_quality(row)}" for row in few]
        yield Gallery(
            title=f"{rows.num_rows:,} labels",
            code=reason,
            note=in_words(reason),
            thumbnails=pictures.of_images([row["image_id"] for row in few], captions, budget),
        )


def _quality(row: Mapping[str, Any]) -> str:
    quality = row.get("quality")
    return "" if quality is None else f", quality {quality:.2f}"


def _rejected_masks(build: FoundBuild, pictures: Pictures, budget: Budget) -> Iterator[Gallery]:
    tables = [_read(part, MASKS, ["image_id", "reject_reason"])
              for part in build.artifacts.get(make_masks.NAME, [])]  # fmt: skip
    if not tables:
        return
    table = pa.concat_tables(tables)
    # A part of masks may have images of other vocabularies, too.
    own = table.filter(pc.is_in(table["image_id"], value_set=pa.array(pictures.retrieved)))
    usable = own.filter(pc.equal(own["reject_reason"], ""))["image_id"]
    lost = own.filter(pc.invert(pc.is_in(own["image_id"], value_set=usable)))
    for reason, rows in _by_reason(lost, "reject_reason"):
        images = pc.unique(rows["image_id"]).to_pylist()
        few = sorted(images)[:_OF_A_REASON]
        yield Gallery(
            title=f"{len(images):,} images",
            code=reason,
            note=in_words(reason),
            thumbnails=pictures.of_images(few, [""] * len(few), budget),
        )


def _rejected_files(build: FoundBuild) -> Iterator[Gallery]:
    """Files that could not be used, by name: there is nothing to show of them."""
    names: dict[str, list[str]] = {}
    counts: Counter[str] = Counter()
    for stage in (scan.NAME, embed_images.NAME):
        for part in build.artifacts.get(stage, []):
            if REJECTS not in part.files:
                continue
            with part.open(REJECTS) as file:
                table = read_parquet(file)
            column = "reject_reason" if "reject_reason" in table.column_names else "reason"
            for reason, rows in _by_reason(table, column):
                counts[reason] += rows.num_rows
                few = names.setdefault(reason, [])
                few += [_file_name(row) for row in rows.slice(0, _NAMES - len(few)).to_pylist()]
    for reason, number in sorted(counts.items()):
        yield Gallery(
            title=f"{number:,} files",
            code=reason,
            note=in_words(reason),
            thumbnails=(),
            names=tuple(names[reason]),
        )


def _file_name(row: Mapping[str, Any]) -> str:
    member = row.get("member") or ""
    return display(row["uri"]) + (f": {display(member)}" if member else "")


def _by_reason(table: pa.Table, column: str) -> Iterator[tuple[str, pa.Table]]:
    """The rows of each reason, in the order of the reasons."""
    for reason in sorted(pc.unique(table[column]).to_pylist()):
        yield reason, table.filter(pc.equal(table[column], reason))


def _spread(rows: pa.Table) -> list[dict[str, Any]]:
    """Some of the rows, evenly from the first to the last."""
    few = min(_OF_A_REASON, rows.num_rows)
    places = np.linspace(0, rows.num_rows - 1, few).round().astype(int)
    taken: list[dict[str, Any]] = rows.take(places).to_pylist()
    return taken


def _read(part: Artifact, name: str, columns: Sequence[str]) -> pa.Table:
    with part.open(name) as file:
        return read_parquet(file, columns=columns)
