"""Random access to a data set's samples by byte offset, decoded at the size that is needed.

A data set is the output of `assemble_dataset`, as an artifact or as a folder with the same files:
`NAME-000000.tar` and on, `index.parquet` and `vocabulary.json` (see `storage.shards.writing`).
"""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, JpegImagePlugin, PngImagePlugin
from pycocotools import mask as coco_mask

from storage.artifacts.store import Artifact, damaged
from storage.errors.exceptions import ArtifactError, ConfigError
from storage.files.filesystems import (
    MissingFileError,
    ShortReadError,
    display,
    is_local,
    join_uri,
    local_uri,
    open_binary,
    read_range,
)
from storage.files.json_files import parse_json
from storage.files.user_files import DATASET_VOCABULARY, read_uri
from storage.images.pillow_warnings import noted_warnings
from storage.images.records import read_parquet
from storage.shards.cache import local_copy
from storage.shards.writing import INDEX_SCHEMA, SEVERAL_SCHEMA, ignore_label
from storage.vocabularies.vocabulary import Category

_INDEX, _VOCABULARY = "index.parquet", "vocabulary.json"
_SCHEMA = pa.schema([("shard", pa.string()), *INDEX_SCHEMA])
_OBJECTS = "objects"
# A gap between wanted members up to this size is read along, instead of a further request.
_SMALL_GAP = 65_536


@dataclass(frozen=True)
class SampleBytes:
    """One sample as it is stored.

    Attributes:
        jpeg: the image's bytes.
        facts: the JSON's.
        mask: the label map's, a PNG.
    """

    jpeg: bytes
    facts: bytes
    mask: bytes


class ShardSamples:
    """The samples of a data set, read one by one. Can be pickled, and shared with child processes.

    Nothing is kept open or in memory but the index, about a hundred bytes a sample. Shards that are
    not on a local disk are copied to one when they are first read (see `storage.shards.cache`).

    Categories that are left out take their samples along, and the others are numbered anew from 1:
    everything here has the new numbers.

    Attributes:
        name: the folder or artifact, for people.
        labels: int32 [n], each sample's category_id.
        heights, widths: int32 [n], each image's size in pixels.
        categories: names by category_id, in the order of the ids.
        vocabulary: the same with the prompts and synonyms that the data set was made with.
        ignore_label: label of ignored pixels: 255, or 65,535 with 16-bit label maps.
        objects: the labelled objects of all samples, in their order; where a sample has one, it is
            its label's.
    """

    def __init__(
        self,
        name: str,
        folder: str,
        index: pa.Table,
        vocabulary: dict[int, Category],
        leave_out: Collection[str] = (),
    ) -> None:
        categories = {number: category.name for number, category in vocabulary.items()}
        index = _checked_index(name, index)
        _check(name, index, categories)
        self.ignore_label = ignore_label(max(categories))
        self._new_labels = _new_labels(name, categories, leave_out, self.ignore_label)
        if self._new_labels is not None:
            index, categories = _without(name, index, categories, leave_out)
        shards = index["shard"].combine_chunks().dictionary_encode()
        self.name = name
        self.categories = dict(sorted(categories.items()))
        words = {category.name: category for category in vocabulary.values()}
        self.vocabulary = {number: words[name] for number, name in self.categories.items()}
        self.labels = self._renumbered(index["label"].to_numpy())
        self.heights = index["height"].to_numpy()
        self.widths = index["width"].to_numpy()
        self._folder = folder
        self._copies: dict[str, str] = {}
        self._shards: list[str] = shards.dictionary.to_pylist()
        self._shard_numbers = shards.indices.to_numpy()
        self.objects = _objects(index, self.labels, self._new_labels)
        self._keys = index["key"].combine_chunks()
        self._places = np.stack(
            [index[f"{member}_{what}"].to_numpy() for member in ("jpg", "json", "mask")
             for what in ("offset", "length")], axis=1
        )  # fmt: skip

    @classmethod
    def open(cls, place: Artifact | Path | str, leave_out: Collection[str] = ()) -> ShardSamples:
        """Open a data set.

        Args:
            place: an artifact, whose files are checked against its manifest; or the path or URI of
                a folder with its files.
            leave_out: names of categories to do without.

        Raises:
            ArtifactError: a file is missing or damaged, or there is no sample.
            ConfigError: a category to leave out is none of the data set's.
            StorageError: the folder can't be read.
        """
        if isinstance(place, Artifact):
            if problems := place.problems():
                raise damaged(place.ref, problems)
            with place.open(_INDEX) as file:
                index = read_parquet(file)
            vocabulary = _read_vocabulary(place.uri(_VOCABULARY))
            return cls(f"artifact {place.ref}", place.location, index, vocabulary, leave_out)
        folder = local_uri(str(place)) if isinstance(place, Path) else place
        try:
            with open_binary(join_uri(folder, _INDEX)) as file:
                index = read_parquet(file)
            vocabulary = _read_vocabulary(join_uri(folder, _VOCABULARY))
        except MissingFileError as error:
            raise ArtifactError(
                f"{display(folder)} is not a data set ({error}); name the folder that "
                "assemble_dataset published, or an artifact."
            ) from error
        return cls(display(folder), folder, index, vocabulary, leave_out)

    def __len__(self) -> int:
        return len(self.labels)

    def key(self, i: int) -> str:
        """The sample's key in its shard, which is its image_id."""
        return str(self._keys[i].as_py())

    def shard(self, i: int) -> str:
        """Path or URI of the tar that the sample is in."""
        return join_uri(self._folder, self._shards[self._shard_numbers[i]])

    def place(self, i: int) -> tuple[int, ...]:
        """Offset and length in the tar of the sample's image, JSON and label map."""
        return tuple(self._places[i].tolist())

    def categories_without_samples(self) -> dict[int, str]:
        """Names by category_id of the categories that no sample is labelled with."""
        found = set(np.unique(self.objects.labels).tolist())
        return {number: name for number, name in self.categories.items() if number not in found}

    def samples_by_category(self) -> dict[int, npt.NDArray[np.int64]]:
        """Ascending indices of each category's samples, for the categories that have any."""
        order = np.argsort(self.labels, kind="stable")
        labels, starts = np.unique(self.labels[order], return_index=True)
        return dict(zip(labels.tolist(), np.split(order, starts[1:]), strict=True))

    def objects_by_category(self) -> dict[int, npt.NDArray[np.int64]]:
        """Ascending indices into `objects` of each category's, for the categories that have any."""
        order = np.argsort(self.objects.labels, kind="stable")
        labels, starts = np.unique(self.objects.labels[order], return_index=True)
        return dict(zip(labels.tolist(), np.split(order, starts[1:]), strict=True))

    def read(self, i: int, *, copy: bool = True) -> SampleBytes:
        """Image, JSON and label map of sample `i`, as they are stored.

        Args:
            i: the sample's index.
            copy: copy a shard that is not on a local disk to one first; for a few samples of many
                shards, reading them in place is cheaper.

        Raises:
            ArtifactError: the shard is gone, or shorter than the index has it.
            StorageError: the shard can't be read.
        """
        members = self._places[i].reshape(3, 2).tolist()
        start = min(offset for offset, _ in members)
        end = max(offset + length for offset, length in members)
        try:
            shard = self._copy_of(self.shard(i)) if copy else self.shard(i)
            if end - start <= sum(length for _, length in members) + _SMALL_GAP:
                data = read_range(shard, start, end - start)
                parts = [data[at - start : at - start + length] for at, length in members]
            else:
                parts = [read_range(shard, at, length) for at, length in members]
            return SampleBytes(*parts)
        except (MissingFileError, ShortReadError) as error:
            raise self._damaged(i, str(error).rstrip(".")) from error

    def facts(self, i: int) -> dict[str, Any]:
        """The JSON of sample `i`, without reading its image.

        Raises:
            ArtifactError: the shard is gone or too short, or the JSON is none.
            StorageError: the shard can't be read.
        """
        offset, length = self._places[i].reshape(3, 2)[1].tolist()
        try:
            data = read_range(self._copy_of(self.shard(i)), offset, length)
        except (MissingFileError, ShortReadError) as error:
            raise self._damaged(i, str(error).rstrip(".")) from error
        with self._decoding(i, "JSON"):
            return dict(json.loads(data))

    def _copy_of(self, shard: str) -> str:
        """The path or URI to read the shard from; a local one is read in place."""
        if shard not in self._copies:
            self._copies[shard] = shard if is_local(shard) else local_copy(shard)
        return self._copies[shard]

    def decode_image(self, i: int, jpeg: bytes, *, least: tuple[int, int]) -> Image.Image:
        """Decode an image, by DCT scaling no larger than it must be.

        Args:
            i: the sample's index; jpeg: its bytes.
            least: rows and columns that are needed; the image has a half, a quarter or an eighth
                of its sides where that is no less.

        Returns:
            Mode RGB.

        Raises:
            ArtifactError: it is no image of the size that the index has.
        """
        with self._decoding(i, "image"):
            image = JpegImagePlugin.JpegImageFile(io.BytesIO(jpeg))
            self._check_size(i, *image.size)
            image.draft("RGB", least[::-1])
            image.load()
            return image if image.mode == "RGB" else image.convert("RGB")

    def decode_object(
        self, i: int, stored: SampleBytes, place: int | None = None
    ) -> npt.NDArray[np.bool_]:
        """The mask of sample `i`'s object: bool [height, width].

        Args:
            i: the sample's index; stored: its bytes.
            place: of several objects, the one at this place of the JSON's list; None: the one that
                the sample's label is of.

        From the run lengths in the JSON, which is several times as fast as from the label map;
        from that where other programs have written data sets without them.

        Raises:
            ArtifactError: it can't be decoded, or is not of the size that the index has.
        """
        found: npt.NDArray[np.bool_]
        with self._decoding(i, "mask"):
            facts = json.loads(stored.facts)
            rle = (facts if place is None else facts["objects"][place]).get("mask")
            if rle is not None:
                height, width = (int(side) for side in rle["size"])
                self._check_size(i, width, height)
                found = coco_mask.decode(rle).view(np.bool_)
                return found
        found = self.decode_labels(i, stored.mask) == self.labels[i]
        return found

    def decode_labels(self, i: int, png: bytes) -> npt.NDArray[np.uint8 | np.uint16]:
        """Decode a label map: [height, width], 0 background, category_id, or the ignore label.

        Raises:
            ArtifactError: it is no label map of the size that the index has.
        """
        with self._decoding(i, "label map"):
            image = PngImagePlugin.PngImageFile(io.BytesIO(png))
            self._check_size(i, *image.size)
            labels = np.asarray(image)
            if labels.ndim != 2 or labels.dtype not in (np.uint8, np.uint16):
                raise ValueError(f"it has mode {image.mode}")
            return self._renumbered(labels)

    def _renumbered(self, labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if self._new_labels is None:
            return labels
        renumbered: npt.NDArray[Any] = self._new_labels[labels].astype(labels.dtype)
        return renumbered

    def _check_size(self, i: int, width: int, height: int) -> None:
        expected = (int(self.widths[i]), int(self.heights[i]))
        if (width, height) != expected:
            raise ValueError(
                "it has {} x {} pixels instead of {} x {}".format(width, height, *expected)
            )

    @contextmanager
    def _decoding(self, i: int, what: str) -> Iterator[None]:
        """PIL raises nearly every type there is on damaged files."""
        try:
            with noted_warnings():  # counted when the image was embedded
                yield
        except MemoryError:  # the machine's fault, not the sample's
            raise
        except Exception as error:
            reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
            raise self._damaged(i, f"its {what} can't be decoded: {reason}") from error

    def _damaged(self, i: int, reason: str) -> ArtifactError:
        return ArtifactError(
            f"Sample {self.key(i)} of {display(self.shard(i))} is damaged ({reason}); restore the "
            "shard, or rebuild the data set with --repair, and run the same command again."
        )


@dataclass(frozen=True, eq=False)
class LabelledObjects:
    """The labelled objects of a data set, in the order of their samples.

    Attributes:
        samples: int64 [m], the index of each object's sample.
        places: int64 [m], its place in the JSON's list of objects.
        labels: [m], its category_id.
        several: whether samples have lists of objects at all.
    """

    samples: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]
    labels: npt.NDArray[Any]
    several: bool

    def range_of(self, i: int) -> range:
        """Indices of the objects of sample `i`."""
        first, last = np.searchsorted(self.samples, [i, i + 1]).tolist()
        return range(first, last)

    def index_of(self, i: int, place: int) -> int:
        """Index of the object of sample `i` at a place of its list."""
        return next(at for at in self.range_of(i) if self.places[at] == place)

    def of_sample(self, i: int) -> list[tuple[int, int]]:
        """(place, category_id) of each object of sample `i`."""
        return [(int(self.places[at]), int(self.labels[at])) for at in self.range_of(i)]


def _objects(
    index: pa.Table, labels: npt.NDArray[Any], new_labels: npt.NDArray[np.int64] | None
) -> LabelledObjects:
    """The objects that the index lists, without those of categories that are left out."""
    if _OBJECTS not in index.column_names:
        every = np.arange(len(labels), dtype=np.int64)
        return LabelledObjects(every, np.zeros_like(every), labels, several=False)
    listed = index[_OBJECTS].combine_chunks()
    counts = listed.value_lengths().to_numpy(zero_copy_only=False)
    samples = np.repeat(np.arange(len(counts)), counts)
    places = np.arange(len(samples)) - np.repeat(np.cumsum(counts) - counts, counts)
    found = listed.flatten().to_numpy(zero_copy_only=False)
    kept = np.ones(len(found), dtype=np.bool_)
    if new_labels is not None:
        found = new_labels[found].astype(found.dtype)
        kept = (found > 0) & (found < new_labels[-1])
    return LabelledObjects(samples[kept], places[kept], found[kept], several=True)


def _read_vocabulary(uri: str) -> dict[int, Category]:
    """Categories by category_id.

    Raises:
        ArtifactError: the file is not a data set's vocabulary.
    """
    try:
        rows: Sequence[dict[str, Any]] = parse_json(read_uri(uri, DATASET_VOCABULARY))
        return {int(row["category_id"]): _category(row) for row in rows}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ArtifactError(
            f"{display(uri)} is not a data set's vocabulary; rebuild it with --repair."
        ) from error


def _category(row: dict[str, Any]) -> Category:
    return Category(
        name=str(row["name"]),
        prompts=tuple(map(str, row.get("prompts", ()))),
        synonyms=tuple(map(str, row.get("synonyms", ()))),
        external_id=row.get("external_id") or None,
    )


def _new_labels(
    name: str, categories: dict[int, str], leave_out: Collection[str], ignored: int
) -> npt.NDArray[np.int64] | None:
    """The new label by the old one; None if no category is left out."""
    unknown = set(leave_out) - set(categories.values())
    if unknown:
        raise ConfigError(
            f"leave_out has {', '.join(sorted(unknown))}, and {name} has no such category: use its "
            "names."
        )
    if not leave_out:
        return None
    new_labels = np.full(ignored + 1, ignored)
    new_labels[0] = 0
    kept = [number for number in sorted(categories) if categories[number] not in leave_out]
    new_labels[kept] = range(1, len(kept) + 1)
    return new_labels


def _without(
    name: str, index: pa.Table, categories: dict[int, str], leave_out: Collection[str]
) -> tuple[pa.Table, dict[int, str]]:
    """The index's rows of the kept categories, and these with their new numbers."""
    kept = [number for number in sorted(categories) if categories[number] not in leave_out]
    rows = index.filter(pc.is_in(index["label"], pa.array(kept, index["label"].type)))
    if not len(rows):
        raise ArtifactError(f"{name} holds no sample but of the categories to leave out.")
    return rows, {new: categories[old] for new, old in enumerate(kept, start=1)}


def _checked_index(name: str, index: pa.Table) -> pa.Table:
    """The index with its own columns and types alone.

    Raises:
        ArtifactError: a column is missing, there twice, of another type, or lacks values.
    """
    missing = set(_SCHEMA.names) - set(index.column_names)
    if missing:
        raise ArtifactError(
            f"The index of {name} has no column {', '.join(sorted(missing))}; rebuild it with "
            "--repair."
        )
    schema = _SCHEMA
    if _OBJECTS in index.column_names:
        schema = _SCHEMA.append(SEVERAL_SCHEMA.field(_OBJECTS))
    try:
        index = index.select(schema.names).cast(schema)
    except (pa.ArrowException, KeyError, ValueError) as error:  # KeyError where one is there twice
        raise ArtifactError(
            f"The index of {name} is not one of samples ({str(error).splitlines()[0]}); rebuild it "
            "with --repair."
        ) from error
    places = index.select(INDEX_SCHEMA.names[1:])
    if any(column.null_count for column in index.columns) or any(
        pc.min(column).as_py() < 0 for column in places.columns if len(column)
    ):
        raise ArtifactError(
            f"The index of {name} has samples without a place; rebuild it with --repair."
        )
    return index


def _check(name: str, index: pa.Table, categories: dict[int, str]) -> None:
    if not len(index) or not categories:
        raise ArtifactError(
            f"{name} holds no sample; lower the demands on images and masks, or name a data set "
            "that holds some."
        )
    shown = set(np.unique(index["label"].to_numpy()).tolist())
    if _OBJECTS in index.column_names:
        shown |= set(index[_OBJECTS].combine_chunks().flatten().unique().to_pylist())
    unknown = shown - categories.keys()
    if unknown:
        raise ArtifactError(
            f"{name} has samples of category {min(unknown)}, which its vocabulary lacks; rebuild "
            "it with --repair."
        )
