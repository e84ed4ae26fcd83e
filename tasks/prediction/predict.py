"""Prediction on a list of images, into a folder of COCO files, label maps and overlays.

    OUT/predictions.json    COCO: images, categories, annotations with box, area and score; and
                            `rejected`: the unusable images, with the reason
    OUT/results.json        COCO results, for `COCO.loadRes` and average precision
    OUT/labels/NAME.png     label maps: 0 background, i the i-th category; 8-bit with a palette
                            up to 254 categories, above 16-bit grey
    OUT/overlays/NAME.png   the image with its labels, and with its instances

`results.json` intentionally has no boxes: `loadRes` would replace the area of the mask by that of
the box, and with it the split into small, medium and large objects.

Category ids are those of the vocabulary if they are integers, else those that the annotation file
of the image ids has for the names, else the labels of the label maps; where they differ,
`categories` also has the `label` of each.

Image ids count from 1, sorted by path, or are those of a COCO annotation file (`image_ids`); the
same images give the same files. NAME is the image's file name without extension; of two equal ones
the second ends in `-2`.
"""

from __future__ import annotations

import itertools
import json
import posixpath
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from storage.corpora.corpus import list_corpus
from storage.corpora.image_bytes import ImageBytes, iter_entry
from storage.corpora.listing import Listing
from storage.corpora.selection import ALL, Selection
from storage.errors.exceptions import ConfigError, CorpusError, ImageRejected
from storage.errors.reject_reasons import UNREADABLE
from storage.errors.sentences import counted_kinds
from storage.files.file_kinds import file_name
from storage.files.filesystems import display, is_local, local_path, local_uri
from storage.images.decoding import decoded
from storage.vocabularies.vocabulary import Category
from tasks.prediction.image_ids import ImageIds
from tasks.prediction.overlays import draw_overlay, encode_label_map, shown
from tasks.stage.contract import Progress, SilentProgress

if TYPE_CHECKING:
    from tasks.prediction.dense_segmenter import DenseSegmenter, NetworkInput, Segmentation

PREDICTIONS = "predictions.json"
RESULTS = "results.json"
LABELS = "labels"
OVERLAYS = "overlays"

_LONGEST_NAME = 200  # bytes; file systems end at 255


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The results of a run.

    Attributes:
        images: number of segmented images.
        instances: number of instances in all images.
        rejects: unusable images, by reason.
        ignored: other files and excluded images, by kind as in `Listing.ignored`.
        warnings: images that were segmented despite a warning of the decoder, by warning.
    """

    images: int
    instances: int
    rejects: dict[str, int]
    ignored: dict[str, int] = field(default_factory=dict)
    warnings: dict[str, int] = field(default_factory=dict)


def find_images(
    specs: Sequence[str],
    *,
    without: Path | None = None,
    selection: Selection = ALL,
    uri_column: str = "",
) -> Listing:
    """The images of a user's specs, sorted by path, each once.

    Args:
        specs: sources as of a build's corpus; see `storage.corpora.corpus`.
        without: a folder to skip, such as that of earlier predictions.
        selection: patterns of names.
        uri_column: the column of tables that has the images' URIs; empty: a usual one.

    Raises:
        ConfigError: a spec contains a secret, or `uri_column` is given without a table.
        CorpusError: a path or pattern matches nothing, or there is no image.
    """
    listing = list_corpus(specs, selection, uri_column=uri_column)
    if without is not None:
        listing = _without(listing, local_uri(str(without)))
    if not listing.entries.num_rows and not listing.rejects.num_rows:
        others = f" (but {counted_kinds(listing.ignored)})" if listing.ignored else ""
        names = ", ".join(map(display, specs)) or "nothing"
        raise CorpusError(f"There is no image in {names}{others}; name some.")
    return listing


def own_ids(names: Sequence[str | Category] | None) -> tuple[int, ...]:
    """The category ids of a vocabulary; empty unless all are different integers."""
    ids = [name.external_id for name in names or () if isinstance(name, Category)]
    numbers = [each for each in ids if isinstance(each, int)]
    is_whole = len(numbers) == len(names or ()) == len(set(numbers))
    return tuple(numbers) if is_whole else ()


def unused_ids(names: Sequence[str | Category] | None) -> str:
    """A warning if the vocabulary's ids can't be used as category ids; empty if they can."""
    ids = [getattr(name, "external_id", None) for name in names or ()]
    lacking = ids.count(None)
    if own_ids(names) or lacking == len(ids):
        return ""
    if lacking:
        why = f"{lacking:,} of {len(ids):,} have none"
    else:
        why = "some are equal" if all(isinstance(each, int) for each in ids) else "some are text"
    return (
        f"The vocabulary's ids can't be used as category ids ({why}): category_id is 1 to "
        f"{len(ids)}, in the vocabulary's order."
    )


def check_folder(out: Path, *, overwrite: bool) -> None:
    """Check that predictions can be written to a folder, without changing it.

    Raises:
        ConfigError: it is no folder, or it is not empty and `overwrite` is false.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file: name a folder for the predictions.")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise ConfigError(
            f"The folder {out} is not empty: name another one, or use --overwrite to replace the"
            " predictions in it."
        )


def prepare_folder(out: Path, *, overwrite: bool) -> None:
    """Make a folder for predictions.

    Args:
        out: the folder; it may be missing.
        overwrite: delete the files of an earlier prediction; other files are kept.

    Raises:
        ConfigError: as `check_folder`.
    """
    check_folder(out, overwrite=overwrite)
    for path in (out / PREDICTIONS, out / RESULTS):
        path.unlink(missing_ok=True)
    for folder in (out / LABELS, out / OVERLAYS):
        for path in folder.glob("*.png"):
            path.unlink()
        folder.mkdir(parents=True, exist_ok=True)


def predict(
    listing: Listing,
    segmenter: DenseSegmenter,
    out: Path,
    *,
    batch: int = 1,
    progress: Progress | None = None,
    category_ids: Sequence[int] = (),
    selection: Selection = ALL,
    image_ids: ImageIds | None = None,
) -> Summary:
    """Segment images, and write the files that the module's docstring lists.

    Unusable images are counted and skipped. The JSON files are written at the end, so that their
    presence means that the folder is complete.

    Args:
        listing: of `find_images`.
        segmenter: whose categories name the labels.
        out: a folder made by `prepare_folder`.
        batch: images in memory at a time; those of one size pass the network together.
        progress: advanced by each image.
        category_ids: ids of the segmenter's categories in the JSON files, from `own_ids` or
            `category_numbers.numbers_by_name`; empty for the labels.
        selection: patterns for members of tars.
        image_ids: the images' ids in the JSON files; None: counted from 1.

    Raises:
        ConfigError: `batch` is below 1, or the device's memory is too small.
        CorpusError: none of the images can be used, or an image has no id.
    """
    if batch < 1:
        raise ConfigError(f"batch is {batch}: use at least 1.")
    progress = progress or SilentProgress()
    ignored = Counter(listing.ignored)
    with _Writer(out, segmenter, category_ids) as writer:
        for row in _rows(listing.rejects):
            writer.reject(display(row["uri"]), row["reason"])
            progress.advance(rejected=row["reason"])
        tars = _Tars(selection, ignored)
        images = _read(listing, tars, segmenter, writer, progress, image_ids)
        for some in _in_parts(images, batch):
            _predict_some(some, segmenter, writer, progress)
        writer.finish()
    return replace(writer.summary, ignored=dict(sorted(ignored.items())))


@dataclass(frozen=True, eq=False)
class _ImageInput:
    """What prediction keeps of an image, which is small even for a hundred megapixels.

    Attributes:
        seen: the network's input.
        shown: the image at its display size, from `tasks.prediction.overlays.shown`.
    """

    file_name: str
    image_id: int
    seen: NetworkInput
    shown: NDArray[np.uint8]


class _Writer:
    """Writes predictions incrementally, without all instances in memory."""

    def __init__(self, out: Path, segmenter: DenseSegmenter, category_ids: Sequence[int]) -> None:
        self._out = out
        self._segmenter = segmenter
        self._ids = tuple(category_ids) or tuple(range(1, len(segmenter.categories) + 1))
        self._names = _Names()
        self._images: list[dict[str, Any]] = []
        self._rejected: list[dict[str, str]] = []
        self._instances = 0
        self.warnings: Counter[str] = Counter()
        self._annotations = _ListFile(out / PREDICTIONS, '{"annotations": [')
        self._results = _ListFile(out / RESULTS, "[")

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *error: object) -> None:
        self._annotations.discard()
        self._results.discard()

    @property
    def summary(self) -> Summary:
        reasons = Counter(rejected["reason"] for rejected in self._rejected)
        return Summary(
            images=len(self._images),
            instances=self._instances,
            rejects=dict(reasons),
            warnings=dict(sorted(self.warnings.items())),
        )

    def reject(self, name: str, reason: str) -> None:
        self._rejected.append({"file_name": name, "reason": reason})

    def write(self, image: _ImageInput, segmentation: Segmentation) -> None:
        from zutis_model.zutis.instance_prediction import coco_predictions

        categories = self._segmenter.categories
        name = f"{self._names.take(image.file_name)}.png"
        label_map = encode_label_map(segmentation.narrow_labels, len(categories))
        (self._out / LABELS / name).write_bytes(label_map)
        remark = self._segmenter.label if self._segmenter.untrained else ""
        overlay = draw_overlay(image.shown, segmentation, categories, remark=remark)
        overlay.save(self._out / OVERLAYS / name)
        height, width = image.seen.size
        self._images.append(
            {
                "id": image.image_id,
                "file_name": image.file_name,
                "height": height,
                "width": width,
                "label_map": f"{LABELS}/{name}",
                "overlay": f"{OVERLAYS}/{name}",
            }
        )
        for result in coco_predictions(segmentation.instances, image.image_id):
            self._write_instance(result)

    def _write_instance(self, result: dict[str, Any]) -> None:
        self._instances += 1
        result["category_id"] = self._ids[result["category_id"] - 1]
        del result["image_size"]  # `segmentation` has it, too
        self._annotations.add({"id": self._instances, **result, "iscrowd": 0})
        keys = ("image_id", "category_id", "segmentation", "score")
        self._results.add({key: result[key] for key in keys})

    def finish(self) -> None:
        """Write the rest, after the last image.

        Raises:
            CorpusError: no image could be used.
        """
        if not self._images:
            reasons = ", ".join(f"{n} {reason}" for reason, n in self.summary.rejects.items())
            raise CorpusError(f"None of the images can be used ({reasons or 'there are none'}).")
        rest = {
            "images": self._images,
            "categories": self._categories(),
            "rejected": self._rejected,
            "info": {"description": "predictions", "model": self._segmenter.label},
        }
        # These are the remaining keys of the object, after the list of annotations.
        self._annotations.publish(f"],\n{json.dumps(rest)[1:]}")
        self._results.publish("]")

    def _categories(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = [
            {"id": own_id, "name": name}
            for own_id, name in zip(self._ids, self._segmenter.categories, strict=True)
        ]
        if [row["id"] for row in rows] != list(range(1, len(rows) + 1)):
            rows = [row | {"label": label} for label, row in enumerate(rows, start=1)]
        return rows


class _ListFile:
    """A JSON file around one long list, renamed into place when it is complete."""

    def __init__(self, path: Path, head: str) -> None:
        self._path = path
        self._part = path.with_name(f"{path.name}.part")
        self._file = self._part.open("w", encoding="utf-8")
        self._file.write(head)
        self._separator = "\n"

    def add(self, item: dict[str, Any]) -> None:
        self._file.write(f"{self._separator}{json.dumps(item)}")
        self._separator = ",\n"

    def publish(self, tail: str) -> None:
        self._file.write(f"\n{tail}\n")
        self._file.close()
        self._part.replace(self._path)

    def discard(self) -> None:
        """Delete the partial file, unless it is published."""
        self._file.close()
        self._part.unlink(missing_ok=True)


class _Names:
    """Unique file names, also on file systems that ignore case."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._last: Counter[str] = Counter()

    def take(self, path: str) -> str:
        last_part = file_name(path)
        stem = last_part.rpartition(".")[0] or last_part
        stem = stem.encode(errors="replace")[:_LONGEST_NAME].decode(errors="ignore") or "picture"
        name = stem
        while name.casefold() in self._taken:
            self._last[stem] += 1
            name = f"{stem}-{self._last[stem] + 1}"
        self._taken.add(name.casefold())
        return name


def _without(listing: Listing, folder: str) -> Listing:
    prefix = f"{folder}/"

    def kept(table: pa.Table) -> pa.Table:
        return table.filter(pc.invert(pc.starts_with(table["uri"], prefix)))

    return Listing(kept(listing.entries), kept(listing.rejects), listing.ignored)


def _predict_some(
    images: Sequence[_ImageInput], segmenter: DenseSegmenter, writer: _Writer, progress: Progress
) -> None:
    """Segment and write some images, which are freed before the next ones are read."""
    segmentations = segmenter.segment_inputs([image.seen for image in images])
    for image, segmentation in zip(images, segmentations, strict=True):
        writer.write(image, segmentation)
        progress.advance()


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    for some in table.to_batches():
        yield from some.to_pylist()


@dataclass(frozen=True)
class _Tars:
    """Settings for tars: patterns for members, and the counter of other files."""

    selection: Selection
    others: Counter[str]


def _read(
    listing: Listing,
    tars: _Tars,
    segmenter: DenseSegmenter,
    writer: _Writer,
    progress: Progress,
    ids: ImageIds | None,
) -> Iterator[_ImageInput]:
    """The usable images; the others are recorded as rejects."""
    root = _common_folder(listing)
    number = 0
    for row in _rows(listing.entries):
        for item in iter_entry(row["uri"], row["kind"], size=row["size"], **vars(tars)):
            name = _name_within(root, item)
            try:
                seen, to_show = _looked_at(item, segmenter, writer.warnings)
            except ImageRejected as rejected:
                writer.reject(name, rejected.reason)
                progress.advance(rejected=rejected.reason)
                continue
            number += 1
            image_id = ids.take(item.uri, item.member) if ids else number
            del item  # free up to half a gigabyte during the prediction
            yield _ImageInput(name, image_id, seen, to_show)


def _looked_at(
    item: ImageBytes, segmenter: DenseSegmenter, warnings: Counter[str]
) -> tuple[NetworkInput, NDArray[np.uint8]]:
    """An image as the network's input, and at its display size."""
    if item.data is None:
        raise ImageRejected(item.reject_reason or UNREADABLE)
    with decoded(item.data) as found:
        warnings.update(found.warnings)
        return segmenter.input_of(found.image), shown(found.image)


def _common_folder(listing: Listing) -> str:
    """The innermost common folder of all images; '' where some are remote."""
    uris = listing.entries["uri"].to_pylist()
    if not uris or not all(map(is_local, uris)):
        return ""
    return posixpath.commonpath([posixpath.dirname(local_path(uri)) for uri in uris])


def _name_within(root: str, item: ImageBytes) -> str:
    """The image's name in the JSON files: its path in the common folder."""
    name = posixpath.relpath(local_path(item.uri), root) if root else item.uri
    return display(f"{name}/{item.member}" if item.member else name)


def _in_parts(images: Iterator[_ImageInput], batch: int) -> Iterator[list[_ImageInput]]:
    while some := list(itertools.islice(images, batch)):
        yield some
