"""Reading and embedding of one part: entries of a plan in; records, rejects and embeddings out.

Shared by the stages `embed_images` and `ask_again`.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from storage.artifacts.fingerprints import Recipe, unless_default
from storage.artifacts.store import Artifact, Attempt
from storage.corpora.image_bytes import ImageBytes, iter_entry
from storage.corpora.selection import Selection
from storage.embeddings.parts import to_float16_rows, write_embeddings
from storage.errors.exceptions import ConfigError, ImageRejected
from storage.errors.reject_reasons import SIXTEEN_BIT, TRANSIENT
from storage.given_embeddings.names import names_of
from storage.given_embeddings.table import NamedRows
from storage.images.bit_depth import check_bit_depth
from storage.images.decoding import decoded
from storage.images.memory_budget import hold_for_file
from storage.images.records import RECORD_SCHEMA, read_parquet, write_parquet
from tasks.indexing.given_rows import GivenRows, is_compared
from tasks.stage.contract import Progress
from tasks.stage.layout import EMBEDDINGS, ENTRIES, RECORDS, REJECTS
from tasks.stage.models import ModelConfig
from tasks.workers.reading_ahead import in_order

if TYPE_CHECKING:
    from torch import Tensor

    from zutis_model.clip.towers import Clip

STAGE: Final = "embed_images"
VERSION: Final = 1
_LARGEST_MODEL: Final = 512  # largest input side of CLIPs in use, pixels


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the embedding.

    Attributes:
        clip: the CLIP model.
        unusual_images: `convert` CMYK, 16-bit, palette, animated and alpha images to RGB, or
            `reject` them under those names.
        batch_size: images per forward pass. Part of the key: it may change the last bit.
        bit_depth: bits by which samples of more than 8 bits are scaled; 0 for those that an image
            uses. None acts like 0; every part is first made with it (`reads_depth_wrongly`).
        given: key of an artifact of `import_embeddings`, whose rows are taken for the images that
            it names; '' for none. Not part of the key, which has `given_digest`, of its content.
        read_threads: threads that read and decode. Not part of the key.
    """

    clip: ModelConfig
    unusual_images: Literal["convert", "reject"] = "convert"
    batch_size: int = 32
    bit_depth: int | None = None
    given: str = ""
    given_digest: str = ""
    read_threads: int = 8

    def __post_init__(self) -> None:
        if self.unusual_images not in ("convert", "reject"):
            raise ConfigError(
                f"unusual_images is {self.unusual_images!r}: choose convert or reject."
            )
        check_bit_depth(self.bit_depth or 0)

    @property
    def recipe(self) -> Recipe:
        return Recipe(
            stage=STAGE,
            version=VERSION,
            config={
                **self.clip.identity,
                "unusual_images": self.unusual_images,
                "batch_size": self.batch_size,
                **unless_default(self, "bit_depth", "given_digest"),
            },
            weights={"clip": self.clip.weights.digest},
        )


def entries_of_part(plan: Artifact, part: int) -> list[dict[str, Any]]:
    """The entries of one part of a scan's plan, in order: uri, size, kind, and `present`, whether
    each is still in the corpus."""
    with plan.open(ENTRIES) as file:
        table = read_parquet(file, columns=["uri", "size", "kind", "part", "present"])
    rows: list[dict[str, Any]] = table.filter(pc.equal(table["part"], part)).to_pylist()
    return rows


@dataclass(frozen=True)
class Reading:
    """Settings of reading.

    Attributes:
        clip: loads the network, or returns it; called from several threads.
        config: settings of the embedding.
        selection: selects the members of tars.
        known: URI and offset of images in tars that are skipped because they are already known.
        given: embeddings that the user has; None for none.
    """

    clip: Callable[[], Clip]
    config: Config
    selection: Selection
    known: frozenset[tuple[str, int]] = frozenset()
    given: NamedRows | None = None


def read_and_embed(
    entries: list[dict[str, Any]], reading: Reading, progress: Progress
) -> EmbeddedPart:
    """Read entries, each image once, and embed the usable images."""
    part = EmbeddedPart(reading.clip, GivenRows(reading.given) if reading.given else None)
    prepared = _prepare_all(entries, reading, part.ignored)
    for batch in _batches(prepared, reading.config.batch_size, part, progress):
        part.add(batch)
        progress.advance(len(batch))
    if part.given:
        part.given.check()
    return part


def write_part(
    attempt: Attempt,
    records: list[dict[str, Any]],
    rejects: list[dict[str, Any]],
    embeddings: np.ndarray,
) -> None:
    """Write the files of an embedded part.

    Args:
        attempt: of the artifact.
        records, rejects: rows of `RECORD_SCHEMA`.
        embeddings: float16 [n, d], row-aligned with the records.
    """
    with attempt.create(RECORDS) as file:
        write_parquet(pa.Table.from_pylist(records, RECORD_SCHEMA), file)
    with attempt.create(REJECTS) as file:
        write_parquet(pa.Table.from_pylist(rejects, RECORD_SCHEMA), file)
    with attempt.create(EMBEDDINGS) as file:
        write_embeddings(embeddings, file)


def part_counts(
    records: list[dict[str, Any]],
    rejects: list[dict[str, Any]],
    *,
    ignored: Counter[str],
    few_colours: int,
    bit_depths: Counter[str],
    warnings: Counter[str],
) -> dict[str, Any]:
    """The counts of an embedded part's manifest."""
    conversions = Counter(record["conversion"] for record in records)
    conversions.pop("", None)
    distinct = len({record["image_id"] for record in records})
    counts: dict[str, Any] = {
        "read": len(records) + len(rejects),
        "images": len(records),
        "duplicates": len(records) - distinct,
        "rejects": dict(sorted(Counter(row["reject_reason"] for row in rejects).items())),
        "conversions": dict(sorted(conversions.items())),
    }
    if few_colours:
        counts["few_colours"] = few_colours
    if SIXTEEN_BIT in conversions:
        counts["bit_depths"] = {bits: bit_depths[bits] for bits in sorted(bit_depths, key=int)}
    if warnings:
        counts["warnings"] = dict(sorted(warnings.items()))
    if ignored:  # of tars only: those of folders are counted by the scan
        counts["ignored"] = dict(sorted(ignored.items()))
    return counts


@dataclass
class _Prepared:
    """An image after reading: its record; its pixels, unless it is rejected or needs none; and its
    row among the given embeddings, if it has one."""

    record: dict[str, Any]
    pixels: Tensor | None
    given: int | None = None
    bits: int | None = None
    few_colours: bool = False
    warnings: tuple[str, ...] = ()


@dataclass
class EmbeddedPart:
    """The growing output of a part. `row_of` finds the row of a duplicate."""

    clip: Callable[[], Clip]
    given: GivenRows | None = None
    records: list[dict[str, Any]] = field(default_factory=list)
    rejects: list[dict[str, Any]] = field(default_factory=list)
    rows: list[np.ndarray] = field(default_factory=list)
    row_of: dict[str, int] = field(default_factory=dict)
    ignored: Counter[str] = field(default_factory=Counter)
    bit_depths: Counter[str] = field(default_factory=Counter)
    few_colours: int = 0
    warnings: Counter[str] = field(default_factory=Counter)

    def file(self, image: _Prepared) -> bool:
        """Add an image to the records or the rejects; True if it has to be embedded."""
        if image.record["reject_reason"]:
            self.rejects.append(image.record)
            return False
        self.records.append(image.record)
        self.few_colours += image.few_colours
        self.warnings.update(image.warnings)
        if image.bits is not None:
            self.bit_depths[str(image.bits)] += 1
        if image.record["image_id"] in self.row_of:
            return False
        self.row_of[image.record["image_id"]] = len(self.row_of)
        return True

    def add(self, batch: list[_Prepared]) -> None:
        """Append the rows of images, in their order."""
        computed = self._embedded(batch)
        if self.given is None:
            self.rows.append(computed)
            return
        rows = np.empty((len(batch), self.clip().embedding_dim), np.float16)
        rows[[image.pixels is not None for image in batch]] = computed
        for row, image in zip(rows, batch, strict=True):
            if image.given is not None:
                own = row.copy() if image.pixels is not None else None
                row[:] = self.given.row_of(image.given, image.record, own)
        self.rows.append(rows)

    def _embedded(self, batch: list[_Prepared]) -> np.ndarray:
        """The network's float16 rows of the images that have pixels."""
        import torch

        pixels = [image.pixels for image in batch if image.pixels is not None]
        if not pixels:
            return np.empty((0, self.clip().embedding_dim), np.float16)
        return to_float16_rows(self.clip().embed_images(torch.stack(pixels)).cpu().numpy())

    def embeddings(self) -> np.ndarray:
        """float16 [n, d], one row per record; duplicates repeat their row."""
        unique = np.concatenate([np.empty((0, self.clip().embedding_dim), np.float16), *self.rows])
        return unique[[self.row_of[record["image_id"]] for record in self.records]]

    def counts(self) -> dict[str, Any]:
        counts = part_counts(
            self.records,
            self.rejects,
            ignored=self.ignored,
            few_colours=self.few_colours,
            bit_depths=self.bit_depths,
            warnings=self.warnings,
        )
        return counts | (self.given.counts() if self.given else {})


def _batches(
    prepared: Iterable[_Prepared], batch_size: int, part: EmbeddedPart, progress: Progress
) -> Iterator[list[_Prepared]]:
    """Add every image to the records or the rejects, and yield the new ones in batches."""
    batch: list[_Prepared] = []
    for image in prepared:
        if not part.file(image):
            rejected = image.record["reject_reason"]
            progress.advance(1, rejected=rejected, duplicates=0 if rejected else 1)
            continue
        batch.append(image)
        if len(batch) == batch_size:
            yield batch
            batch = []
    if batch:
        yield batch


def _prepare_all(
    entries: list[dict[str, Any]], reading: Reading, ignored: Counter[str]
) -> Iterator[_Prepared]:
    """Read, decode and preprocess ahead of the model, in the order of the entries; other files in
    tars are counted in `ignored`."""
    config = reading.config

    def prepare(image: ImageBytes, number: int) -> _Prepared:
        return _prepare(image, reading, compared=is_compared(number))

    def prepare_file(entry: dict[str, Any], number: int) -> _Prepared:
        with hold_for_file(entry["size"]):
            image = next(iter_entry(entry["uri"], entry["kind"], size=entry["size"]))
            return prepare(image, number)

    def submit_all(pool: ThreadPoolExecutor) -> Iterator[tuple[Future[_Prepared], int]]:
        numbers = itertools.count()
        for entry in entries:
            if entry["kind"] == "image":  # read in the pool, where remote files may take long
                yield pool.submit(prepare_file, entry, next(numbers)), 0
            else:  # a container is read sequentially, once, and its members wait in memory
                for image in _images_within(entry, reading, ignored):
                    yield pool.submit(prepare, image, next(numbers)), len(image.data or b"")

    with ThreadPoolExecutor(config.read_threads, thread_name_prefix="read") as pool:
        try:
            ahead = 2 * config.batch_size + config.read_threads
            yield from in_order(submit_all(pool), ahead=ahead)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _images_within(
    entry: dict[str, Any], reading: Reading, ignored: Counter[str]
) -> Iterator[ImageBytes]:
    others: Counter[str] = Counter()
    whole = True
    for image in iter_entry(
        entry["uri"], entry["kind"], others=others, selection=reading.selection
    ):
        whole = whole and image.reject_reason not in TRANSIENT
        if (image.uri, image.offset) not in reading.known:
            yield image
    if whole:  # else a retry reads it again, and counts then
        ignored.update(others)


def _prepare(image: ImageBytes, reading: Reading, *, compared: bool = False) -> _Prepared:
    """Decode an image, and preprocess it unless its embedding is given; one that is to be
    `compared` with that is preprocessed all the same."""
    config = reading.config
    record: dict[str, Any] = {
        "image_id": "" if image.data is None else hashlib.sha256(image.data).hexdigest(),
        "uri": image.uri,
        "member": image.member,
        "offset": image.offset,
        "length": image.length,
        "height": 0,
        "width": 0,
        "format": "",
        "conversion": "",
        "reject_reason": image.reject_reason or "",
    }
    if image.data is None:
        return _Prepared(record, None)
    try:
        with decoded(
            image.data,
            unusual=config.unusual_images,
            bit_depth=config.bit_depth or 0,
            besides=_bytes_in_between,
        ) as found:
            record |= {
                "height": found.height,
                "width": found.width,
                "format": found.format,
                "conversion": found.conversion,
            }
            given = None
            if reading.given is not None:
                given = reading.given.find(names_of(image.uri, image.member))
            needed = given is None or compared
            pixels = reading.clip().preprocess(found.image) if needed else None
            return _Prepared(record, pixels, given, found.bits, found.few_colours, found.warnings)
    except ImageRejected as rejected:
        return _Prepared(record | {"reject_reason": rejected.reason}, None)


def _bytes_in_between(height: int, width: int) -> int:
    """Bytes of an image that is resized to a model's shorter side but not yet cropped: they may be
    a hundred times those of a small, elongated original."""
    return 4 * _LARGEST_MODEL**2 * max(height, width) // min(height, width)
