"""One read per image: bytes to sha256, decoded, measured, and embedded with CLIP.

A part's records and its embeddings are row-aligned; images that can't be used are counted and
recorded under their reason. The same bytes at two places of a part are embedded once.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from storage.artifacts import Artifact, ArtifactRef, ArtifactStore
from storage.bit_depth import check_bit_depth
from storage.corpus_selection import Selection
from storage.embeddings import to_float16_rows, write_embeddings
from storage.errors import ConfigError, ImageRejected
from storage.fingerprints import Recipe, unless_default
from storage.image_bytes import ImageBytes, iter_entry
from storage.image_decoding import decode
from storage.records import RECORD_SCHEMA, read_parquet, write_parquet
from storage.reject_reasons import SIXTEEN_BIT
from tasks.layout import EMBEDDINGS, ENTRIES, RECORDS, REJECTS
from tasks.models import ModelConfig, load_clip_model
from tasks.stage import PartOfPlan, Progress, plan_parts, plan_selection, waiting

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from zutis_model.clip import Clip

NAME = "embed_images"
VERSION = 1


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
            stage=NAME,
            version=VERSION,
            config={
                **self.clip.identity,
                "unusual_images": self.unusual_images,
                "batch_size": self.batch_size,
                **unless_default(self, "bit_depth"),
            },
            weights={"clip": self.clip.weights.digest},
        )


def locate(config: Config, inputs: PartOfPlan, store: ArtifactStore) -> ArtifactRef:
    part = plan_parts(store.get(inputs.plan))[inputs.part]
    return ArtifactRef(NAME, config.recipe.key_of_digest(part["digest"]))


def reads_depth_wrongly(part: Artifact, bit_depth: int) -> bool:
    """Whether an embedded part has pictures of more than 8 bits that were not scaled as asked.

    Few corpora have such pictures, and their parts alone have to be embedded once more, under a
    key of their own: where a depth is given, or where they were embedded when everything of 16 bits
    was scaled by the range of the file.

    Args:
        part: made with any `bit_depth`.
        bit_depth: that is wanted; 0 for what the pictures use.
    """
    if SIXTEEN_BIT not in part.counts["conversions"]:
        return False
    if "bit_depths" not in part.counts:
        return True
    return bit_depth > 0 and any(bits != str(bit_depth) for bits in part.counts["bit_depths"])


def run(config: Config, inputs: PartOfPlan, store: ArtifactStore, progress: Progress) -> Artifact:
    """Embed one part of a scan's plan.

    Publishes `records.parquet` and `rejects.parquet` (`RECORD_SCHEMA`) and `embeddings.npy`
    (float16 [n, d], L2-normalised, row-aligned with the records). The counts say by how many bits
    pictures of more than 8 were scaled (`bit_depths`), and how many have so few colours that they
    are hardly photographs (`few_colours`), where there are any.
    """
    with waiting(progress, "loading CLIP"):
        clip = load_clip_model(config.clip)
    plan = store.get(inputs.plan)
    part = _EmbeddedPart(clip)
    tars = _Tars(plan_selection(plan), part.ignored)
    prepared = _prepare_all(_entries_of_part(plan, inputs.part), clip, config, tars)
    for batch in _batches(prepared, config.batch_size, part, progress):
        part.add(batch)
        progress.advance(len(batch))
    ref = locate(config, inputs, store)
    with store.attempt(ref) as attempt:
        with attempt.create(RECORDS) as file:
            write_parquet(part.records_table(), file)
        with attempt.create(REJECTS) as file:
            write_parquet(pa.Table.from_pylist(part.rejects, RECORD_SCHEMA), file)
        with attempt.create(EMBEDDINGS) as file:
            write_embeddings(part.embeddings(), file)
        return store.publish(
            attempt, config.recipe, inputs={"plan": inputs.plan.key}, counts=part.counts(),
            notes={"part": inputs.part, "clip": config.clip.weights.label,
                   "preprocessing": clip.preprocessing},
        )  # fmt: skip


def _entries_of_part(plan: Artifact, part: int) -> list[dict[str, Any]]:
    with plan.open(ENTRIES) as file:
        table = read_parquet(file, columns=["uri", "size", "kind", "part"])
    rows: list[dict[str, Any]] = table.filter(pc.equal(table["part"], part)).to_pylist()
    return rows


@dataclass
class _Prepared:
    """An image after reading: its record, and its pixels if it is to be embedded."""

    record: dict[str, Any]
    pixels: Tensor | None
    bits: int | None = None
    few_colours: bool = False


@dataclass
class _EmbeddedPart:
    """The growing output of a part. `row_of` finds an image whose bytes were seen before."""

    clip: Clip
    records: list[dict[str, Any]] = field(default_factory=list)
    rejects: list[dict[str, Any]] = field(default_factory=list)
    rows: list[np.ndarray] = field(default_factory=list)
    row_of: dict[str, int] = field(default_factory=dict)
    ignored: Counter[str] = field(default_factory=Counter)
    bit_depths: Counter[int] = field(default_factory=Counter)
    few_colours: int = 0

    def file(self, image: _Prepared) -> bool:
        """Put an image under records or rejects; True if it is one that is to be embedded."""
        if image.pixels is None:
            self.rejects.append(image.record)
            return False
        self.records.append(image.record)
        self.few_colours += image.few_colours
        if image.bits is not None:
            self.bit_depths[image.bits] += 1
        if image.record["image_id"] in self.row_of:
            return False
        self.row_of[image.record["image_id"]] = len(self.row_of)
        return True

    def add(self, batch: list[_Prepared]) -> None:
        import torch

        pixels = torch.stack([image.pixels for image in batch if image.pixels is not None])
        self.rows.append(to_float16_rows(self.clip.embed_images(pixels).cpu().numpy()))

    def embeddings(self) -> np.ndarray:
        """float16 [n, d], one row a record; a repeated image repeats its row."""
        unique = np.concatenate([np.empty((0, self.clip.embedding_dim), np.float16), *self.rows])
        return unique[[self.row_of[record["image_id"]] for record in self.records]]

    def records_table(self) -> pa.Table:
        return pa.Table.from_pylist(self.records, RECORD_SCHEMA)

    def counts(self) -> dict[str, Any]:
        conversions = Counter(record["conversion"] for record in self.records)
        conversions.pop("", None)
        # Of tars alone: what else is in folders is counted where these are listed.
        ignored = {"ignored": dict(sorted(self.ignored.items()))} if self.ignored else {}
        return {
            "read": len(self.records) + len(self.rejects),
            "images": len(self.records),
            "duplicates": len(self.records) - len(self.row_of),
            "rejects": dict(sorted(Counter(row["reject_reason"] for row in self.rejects).items())),
            "conversions": dict(sorted(conversions.items())),
            **self._oddities(SIXTEEN_BIT in conversions),
            **ignored,
        }

    def _oddities(self, deep: bool) -> dict[str, Any]:
        found: dict[str, Any] = {"few_colours": self.few_colours} if self.few_colours else {}
        if deep:
            found["bit_depths"] = {str(bits): n for bits, n in sorted(self.bit_depths.items())}
        return found


def _batches(
    prepared: Iterable[_Prepared], batch_size: int, part: _EmbeddedPart, progress: Progress
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


@dataclass(frozen=True)
class _Tars:
    """How tars are read: which members, and where the others are counted."""

    selection: Selection
    others: Counter[str]


def _prepare_all(
    entries: list[dict[str, Any]], clip: Clip, config: Config, tars: _Tars
) -> Iterator[_Prepared]:
    """Read, decode and preprocess ahead of the model, in the order of the entries."""

    def prepare(image: ImageBytes) -> _Prepared:
        return _prepare(image, clip.preprocess, config)

    def prepare_file(entry: dict[str, Any]) -> _Prepared:
        return prepare(next(iter_entry(entry["uri"], entry["kind"], size=entry["size"])))

    def submit_all(pool: ThreadPoolExecutor) -> Iterator[Future[_Prepared]]:
        for entry in entries:
            if entry["kind"] == "image":  # remote files wait for the network in the pool
                yield pool.submit(prepare_file, entry)
            else:  # a tar is read once, in order
                for image in iter_entry(entry["uri"], entry["kind"], **vars(tars)):
                    yield pool.submit(prepare, image)

    with ThreadPoolExecutor(config.read_threads, thread_name_prefix="read") as pool:
        window: deque[Future[_Prepared]] = deque()
        try:
            for future in submit_all(pool):
                window.append(future)
                if len(window) > 2 * config.batch_size + config.read_threads:
                    yield window.popleft().result()
            while window:
                yield window.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _prepare(
    image: ImageBytes, preprocess: Callable[[Image.Image], Tensor], config: Config
) -> _Prepared:
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
        decoded = decode(image.data, unusual=config.unusual_images, bit_depth=config.bit_depth or 0)
    except ImageRejected as rejected:
        return _Prepared(record | {"reject_reason": rejected.reason}, None)
    record |= {
        "height": decoded.height,
        "width": decoded.width,
        "format": decoded.format,
        "conversion": decoded.conversion,
    }
    return _Prepared(record, preprocess(decoded.image), decoded.bits, decoded.few_colours)
