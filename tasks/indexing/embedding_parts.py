"""What reads and embeds images: entries of a plan in, records, rejects and rows out.

Shared by the stage that embeds a part and the one that asks again for what a server could not
send.
"""

from __future__ import annotations

import hashlib
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
from storage.images.bit_depth import check_bit_depth
from storage.images.decoding import decoded
from storage.images.memory_budget import hold_for_file
from storage.images.records import RECORD_SCHEMA, read_parquet, write_parquet
from tasks.stage.contract import Progress
from tasks.stage.layout import EMBEDDINGS, ENTRIES, RECORDS, REJECTS
from tasks.stage.models import ModelConfig
from tasks.workers.reading_ahead import in_order

if TYPE_CHECKING:
    from torch import Tensor

    from zutis_model.clip.towers import Clip

STAGE: Final = "embed_images"
VERSION: Final = 1
_LARGEST_MODEL: Final = 512  # pixels of a side, of CLIPs in use


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the embedding.

    Attributes:
        clip: the CLIP model.
        unusual_images: `convert` CMYK, 16-bit, palette, animated and alpha pictures to RGB, or
            `reject` them under those names.
        batch_size: images a forward pass. Part of the key: it may change the last bit.
        bit_depth: bits that samples of more than 8 are scaled by, 0 for those that a picture uses;
            None does as 0 does, and is what every part is made with first (`reads_depth_wrongly`).
        read_threads: threads that read and decode. Not part of the key.
    """

    clip: ModelConfig
    unusual_images: Literal["convert", "reject"] = "convert"
    batch_size: int = 32
    bit_depth: int | None = None
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
                **unless_default(self, "bit_depth"),
            },
            weights={"clip": self.clip.weights.digest},
        )


def entries_of_part(plan: Artifact, part: int) -> list[dict[str, Any]]:
    """The entries of a part of a scan's plan, in order: uri, size, kind, and whether each is still
    `present`."""
    with plan.open(ENTRIES) as file:
        table = read_parquet(file, columns=["uri", "size", "kind", "part", "present"])
    rows: list[dict[str, Any]] = table.filter(pc.equal(table["part"], part)).to_pylist()
    return rows


@dataclass(frozen=True)
class Reading:
    """How entries are read.

    Attributes:
        clip: loads the network, or returns it; called from several threads.
        config: settings of the embedding.
        selection: which members of tars are taken.
        known: URI and offset of images in tars that are passed over, since somebody has them.
    """

    clip: Callable[[], Clip]
    config: Config
    selection: Selection
    known: frozenset[tuple[str, int]] = frozenset()


def read_and_embed(
    entries: list[dict[str, Any]], reading: Reading, progress: Progress
) -> EmbeddedPart:
    """Read entries, each image once, and embed what can be used."""
    part = EmbeddedPart(reading.clip)
    prepared = _prepare_all(entries, reading, part.ignored)
    for batch in _batches(prepared, reading.config.batch_size, part, progress):
        part.add(batch)
        progress.advance(len(batch))
    return part


def write_part(
    attempt: Attempt,
    records: list[dict[str, Any]],
    rejects: list[dict[str, Any]],
    embeddings: np.ndarray,
) -> None:
    """Write the files of an embedded part: rows of `RECORD_SCHEMA`, and float16 [n, d] beside the
    records."""
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
    if ignored:  # of tars alone: what else is in folders is counted where these are listed
        counts["ignored"] = dict(sorted(ignored.items()))
    return counts


@dataclass
class _Prepared:
    """An image after reading: its record, and its pixels if it is to be embedded."""

    record: dict[str, Any]
    pixels: Tensor | None
    bits: int | None = None
    few_colours: bool = False
    warnings: tuple[str, ...] = ()


@dataclass
class EmbeddedPart:
    """The growing output of a part. `row_of` finds an image whose bytes were seen before."""

    clip: Callable[[], Clip]
    records: list[dict[str, Any]] = field(default_factory=list)
    rejects: list[dict[str, Any]] = field(default_factory=list)
    rows: list[np.ndarray] = field(default_factory=list)
    row_of: dict[str, int] = field(default_factory=dict)
    ignored: Counter[str] = field(default_factory=Counter)
    bit_depths: Counter[str] = field(default_factory=Counter)
    few_colours: int = 0
    warnings: Counter[str] = field(default_factory=Counter)

    def file(self, image: _Prepared) -> bool:
        """Put an image under records or rejects; True if it is one that is to be embedded."""
        if image.pixels is None:
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
        import torch

        pixels = torch.stack([image.pixels for image in batch if image.pixels is not None])
        self.rows.append(to_float16_rows(self.clip().embed_images(pixels).cpu().numpy()))

    def embeddings(self) -> np.ndarray:
        """float16 [n, d], one row a record; a repeated image repeats its row."""
        unique = np.concatenate([np.empty((0, self.clip().embedding_dim), np.float16), *self.rows])
        return unique[[self.row_of[record["image_id"]] for record in self.records]]

    def counts(self) -> dict[str, Any]:
        return part_counts(
            self.records,
            self.rejects,
            ignored=self.ignored,
            few_colours=self.few_colours,
            bit_depths=self.bit_depths,
            warnings=self.warnings,
        )


def _batches(
    prepared: Iterable[_Prepared], batch_size: int, part: EmbeddedPart, progress: Progress
) -> Iterator[list[_Prepared]]:
    """File every image under records or rejects and yield the new ones in full batches."""
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
    """Read, decode and preprocess ahead of the model, in the order of the entries; what tars hold
    besides is counted."""
    config = reading.config

    def prepare(image: ImageBytes) -> _Prepared:
        return _prepare(image, reading)

    def prepare_file(entry: dict[str, Any]) -> _Prepared:
        with hold_for_file(entry["size"]):
            return prepare(next(iter_entry(entry["uri"], entry["kind"], size=entry["size"])))

    def submit_all(pool: ThreadPoolExecutor) -> Iterator[tuple[Future[_Prepared], int]]:
        for entry in entries:
            if entry["kind"] == "image":  # remote files wait for the network in the pool
                yield pool.submit(prepare_file, entry), 0
            else:  # a tar is read once, in order, and its members wait in memory
                for image in _images_of_tar(entry["uri"], reading, ignored):
                    yield pool.submit(prepare, image), len(image.data or b"")

    with ThreadPoolExecutor(config.read_threads, thread_name_prefix="read") as pool:
        try:
            ahead = 2 * config.batch_size + config.read_threads
            yield from in_order(submit_all(pool), ahead=ahead)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _images_of_tar(uri: str, reading: Reading, ignored: Counter[str]) -> Iterator[ImageBytes]:
    others: Counter[str] = Counter()
    whole = True
    for image in iter_entry(uri, "tar", others=others, selection=reading.selection):
        whole = whole and image.reject_reason not in TRANSIENT
        if (image.uri, image.offset) not in reading.known:
            yield image
    if whole:  # else somebody will read it again, and count then
        ignored.update(others)


def _prepare(image: ImageBytes, reading: Reading) -> _Prepared:
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
            pixels = reading.clip().preprocess(found.image)
            return _Prepared(record, pixels, found.bits, found.few_colours, found.warnings)
    except ImageRejected as rejected:
        return _Prepared(record | {"reject_reason": rejected.reason}, None)


def _bytes_in_between(height: int, width: int) -> int:
    """Of an image whose shorter side has been brought to a model's, before the crop: an elongated
    one, of few pixels, may have a hundred times as many then."""
    return 4 * _LARGEST_MODEL**2 * max(height, width) // min(height, width)
