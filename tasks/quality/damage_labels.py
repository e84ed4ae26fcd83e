"""The stage `damage_labels`: confident labels of the corpus, damaged on purpose and measured again.

What the estimator of quality learns from, without a human label. An example begins with an image
whose label is believed, into which up to three objects of other believed labels are pasted; its
masks are the object's own, damaged ones (`zutis_model.regions.damage`), the object together with
neighbours, a neighbour alone, and the one that SelfMask proposes for the whole, with the errors
that it makes there. All are measured as `embed_regions` does.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from storage.artifacts.fingerprints import Recipe, unless_default
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.embeddings.parts import to_float16_rows, write_embeddings
from storage.errors.exceptions import ImageRejected
from storage.images.decoding import decoded
from storage.images.masks import mask_pixels
from storage.images.memory_budget import hold_for_file
from storage.images.records import read_parquet, write_parquet
from tasks.indexing.source_images import read_source_image
from tasks.quality.label_signals import plain_confidence
from tasks.quality.label_table import LabelTable, label_table
from tasks.quality.proposed_mask import PROPOSED, proposed_mask
from tasks.quality.region_measuring import (
    REGION_FIELDS,
    Sizes,
    measured,
    prepared,
    sizes_for,
)
from tasks.quality.source_masks import mask_rows
from tasks.retrieval.text_rows import TextRow, load_text_rows
from tasks.stage.contract import Progress, waiting
from tasks.stage.layout import EXAMPLE_VECTORS, EXAMPLES, RETRIEVED_IMAGES
from tasks.stage.models import ModelConfig, load_clip_model, load_selfmask_model
from tasks.workers.reading_ahead import in_order
from zutis_model.refinement.mask_statistics import intersection_over_union
from zutis_model.regions.composites import pasted
from zutis_model.regions.damage import WAYS, damaged

NAME = "damage_labels"
VERSION = 2  # 2: SelfMask's own masks of the made images are among the examples

_LONGEST_SIDE = 512  # of the images that are made, pixels
_MOST_PASTED = 3
_POOL = 32  # objects that are at hand to be pasted
_LEAST_VISIBLE = 0.4
_LEAST_PIXELS = 12
_DAMAGES = 2  # of an image's own mask
_SHARE = 0.5  # of a category's labels, the most confident, that are believed

Mask = npt.NDArray[np.bool_]

SCHEMA = pa.schema(
    [
        ("group", pa.int32()),
        ("image_id", pa.string()),
        ("way", pa.string()),
        (
            "shown",
            pa.list_(
                pa.struct(
                    [
                        ("category_id", pa.int32()),
                        ("iou", pa.float32()),
                        ("stability", pa.float32()),
                    ]
                )
            ),
        ),
        *REGION_FIELDS,
    ]
)
"""`shown`: the categories that the image shows, the believed label's first, each with the IoU of
the example's mask with its object, and the stability of that object's own mask in its image. That
mask is no truth: SelfMask agrees with itself on it to that degree."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the damage.

    Attributes:
        clip, selfmask: as of `embed_regions`.
        images: number of images that examples are made of, at most.
        seed: of everything random.
        mask_size: as for the masks: shorter side of SelfMask's input, pixels.
        bit_depth: as for the masks.
        threads: threads that decode. Not part of the key.
    """

    clip: ModelConfig
    selfmask: ModelConfig
    images: int = 400
    seed: int = 0
    mask_size: int = 512
    bit_depth: int = 0
    threads: int = os.cpu_count() or 1


@dataclass(frozen=True)
class Inputs:
    """A retrieval, its masks and their regions, and the categories' texts by the regions' CLIP, in
    the order of category_ids from 1; of several objects an image also their names."""

    retrieval: ArtifactRef
    masks: tuple[ArtifactRef, ...]
    regions: tuple[ArtifactRef, ...]
    texts: tuple[TextRow, ...]
    named: ArtifactRef | None = None


def _recipe(config: Config, inputs: Inputs) -> Recipe:
    return Recipe(
        stage=NAME,
        version=VERSION,
        config={
            "clip": config.clip.identity,
            "selfmask": config.selfmask.identity,
            "images": config.images,
            "seed": config.seed,
            "mask_size": config.mask_size,
            **unless_default(config, "bit_depth"),
        },
        weights={
            "clip": config.clip.weights.digest,
            "selfmask": config.selfmask.weights.digest,
        },
        inputs={
            "retrieval": inputs.retrieval.key,
            "regions": sorted(ref.key for ref in inputs.regions),
            **({"named": inputs.named.key} if inputs.named else {}),
        },
    )


def locate(config: Config, inputs: Inputs, store: ArtifactStore) -> ArtifactRef:
    return ArtifactRef(NAME, _recipe(config, inputs).key([text.text_id for text in inputs.texts]))


def run(config: Config, inputs: Inputs, store: ArtifactStore, progress: Progress) -> Artifact:
    """Publish `examples.parquet` (`SCHEMA`) and `vectors.npy`, float16 [6 n, d], six rows for each
    of n examples in the same order (`region_measuring.VECTORS`).

    Raises:
        CorpusError: an image is missing or has changed since it was indexed.
    """
    texts, logits = load_text_rows(inputs.texts, store)
    labels = label_table(inputs.retrieval, inputs.regions, texts, logits, store, inputs.named)
    chosen = _believed(labels, config)
    image_ids = {label.image_id for label in chosen}
    images = _locations(inputs.retrieval, image_ids, store)
    found = mask_rows({ref.key for ref in inputs.masks}, image_ids, store)
    masks = {row["mask_id"]: row for rows in found.values() for row in rows}
    with waiting(progress, "loading CLIP and SelfMask"):
        networks = load_clip_model(config.clip), load_selfmask_model(config.selfmask)
    sizes = sizes_for(networks[0].image_size[0])
    rows: list[dict[str, Any]] = []
    vectors = [np.empty((0, networks[0].embedding_dim), dtype=np.float16)]
    sources = _sources(chosen, images, masks, config)
    for group, scene in enumerate(_scenes(sources, config.seed)):
        proposed = proposed_mask(scene.pixels, networks[1], config.mask_size)
        for row, of_region in _examples(scene, proposed, group, sizes, networks):
            rows.append(row)
            vectors.append(to_float16_rows(of_region))
        progress.advance(1)
    with store.attempt(locate(config, inputs, store)) as attempt:
        with attempt.create(EXAMPLES) as file:
            write_parquet(pa.Table.from_pylist(rows, SCHEMA), file)
        with attempt.create(EXAMPLE_VECTORS) as file:
            write_embeddings(np.concatenate(vectors), file)
        return store.publish(
            attempt, _recipe(config, inputs),
            inputs={"masks": sorted(ref.key for ref in inputs.masks)},
            counts={"images": len(chosen), "examples": len(rows)},
        )  # fmt: skip


@dataclass(frozen=True)
class _Believed:
    """A label that is believed."""

    image_id: str
    mask_id: str
    category_id: int
    stability: float


def _believed(labels: LabelTable, config: Config) -> list[_Believed]:
    """The labels that examples are made of, in random order: of each category the most confident
    half, and of these as many of each category as there is room for."""
    confidence = plain_confidence(labels.signals)
    columns = labels.rows.select(["image_id", "mask_id", "category_id"])
    stability = pa.array(labels.signals["stability"])
    rows = columns.append_column("stability", stability).to_pylist()
    by_category: dict[int, list[int]] = {}
    for place in np.argsort(-confidence, kind="stable").tolist():
        by_category.setdefault(rows[place]["category_id"], []).append(place)
    rng = np.random.default_rng(config.seed)
    halves = []
    for _, places in sorted(by_category.items()):
        half = places[: max(1, round(_SHARE * len(places)))]
        halves.append([half[at] for at in np.argsort([rng.random() for _ in half])])
    turns = [place for turn in range(max(map(len, halves), default=0)) for half in halves
             for place in half[turn : turn + 1]]  # fmt: skip
    taken = turns[: config.images]
    return [_Believed(**rows[taken[at]]) for at in np.argsort([rng.random() for _ in taken])]


def _locations(
    retrieval: ArtifactRef, image_ids: Collection[str], store: ArtifactStore
) -> dict[str, dict[str, Any]]:
    with store.get(retrieval).open(RETRIEVED_IMAGES) as file:
        table = read_parquet(file, columns=["image_id", "uri", "offset", "length"])
    chosen = table.filter(pc.is_in(table["image_id"], pa.array(sorted(image_ids), pa.string())))
    return {row["image_id"]: row for row in chosen.to_pylist()}


@dataclass(frozen=True, eq=False)
class _Object:
    """A believed object in its image."""

    label: _Believed
    pixels: npt.NDArray[np.uint8]
    mask: Mask


def _sources(
    chosen: Sequence[_Believed],
    images: dict[str, dict[str, Any]],
    masks: dict[str, dict[str, Any]],
    config: Config,
) -> Iterator[_Object]:
    """The believed objects in order, decoded ahead in threads, without those that can't be read."""

    def read(label: _Believed) -> _Object | None:
        image = images[label.image_id]
        with hold_for_file(image["length"]):
            data = read_source_image(image)
            try:
                with decoded(data, bit_depth=config.bit_depth) as found:
                    return _made_small(label, found.image, mask_pixels(masks[label.mask_id]))
            except ImageRejected:
                return None

    with ThreadPoolExecutor(config.threads, thread_name_prefix="damage") as pool:
        try:
            futures = ((pool.submit(read, label), 1) for label in chosen)
            yield from (each for each in in_order(futures, ahead=2 * config.threads) if each)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _made_small(label: _Believed, image: Image.Image, mask: Mask) -> _Object | None:
    factor = min(1.0, _LONGEST_SIDE / max(image.size))
    size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    pixels = np.array(image.resize(size, Image.Resampling.BICUBIC))
    small = np.asarray(Image.fromarray(mask).convert("L").resize(size, Image.Resampling.BOX)) > 127
    if np.count_nonzero(small) < _LEAST_PIXELS:
        return None
    return _Object(label, pixels, small)


@dataclass(frozen=True, eq=False)
class _Scene:
    """An image, and the visible parts of its objects: the believed one, then those pasted in."""

    pixels: npt.NDArray[np.uint8]
    objects: tuple[tuple[_Believed, Mask], ...]
    image_id: str
    rng: np.random.Generator
    outline: Mask  # of another object


def _scenes(sources: Iterator[_Object], seed: int) -> Iterator[_Scene]:
    """Each source with objects of earlier ones pasted in."""
    pool: deque[_Object] = deque(maxlen=_POOL)
    for source in sources:
        rng = np.random.default_rng([seed, int(source.label.image_id[:12], 16)])
        others = [each for each in pool if each.label.category_id != source.label.category_id]
        pool.append(source)
        if not others:
            continue
        pixels, objects = source.pixels, [(source.label, source.mask)]
        for _ in range(int(rng.random() * (_MOST_PASTED + 1))):
            other = others[int(rng.random() * len(others))]
            area = float(np.count_nonzero(source.mask))
            found = pasted(pixels, other.pixels, other.mask, area, rng)
            if found is None:
                continue
            left = [(label, mask & ~found.mask) for label, mask in objects]
            if _enough_visible(objects, left):
                pixels, objects = found.pixels, [*left, (other.label, found.mask)]
        outline = others[int(rng.random() * len(others))].mask
        yield _Scene(pixels, tuple(objects), source.label.image_id, rng, outline)


def _enough_visible(
    before: list[tuple[_Believed, Mask]], after: list[tuple[_Believed, Mask]]
) -> bool:
    return all(
        np.count_nonzero(now) >= max(_LEAST_VISIBLE * np.count_nonzero(then), _LEAST_PIXELS)
        for (_, then), (_, now) in zip(before, after, strict=True)
    )


def _examples(
    scene: _Scene,
    proposed: Mask | None,
    group: int,
    sizes: Sizes,
    networks: tuple[Any, Any],
) -> Iterator[tuple[dict[str, Any], npt.NDArray[np.float32]]]:
    """The rows of a scene's masks and their vectors, float32 [6, d]."""
    masks = dict(_masks(scene)) | ({PROPOSED: proposed} if proposed is not None else {})
    image = prepared(Image.fromarray(scene.pixels), list(masks.values()), sizes)
    (regions,) = measured([image], *networks)
    for (way, mask), region in zip(masks.items(), regions, strict=True):
        shown: dict[int, tuple[float, float]] = {}
        for label, own in scene.objects:
            found = intersection_over_union(mask, own), label.stability
            shown[label.category_id] = max(shown.get(label.category_id, (0.0, 0.0)), found)
        row = {
            "group": group,
            "image_id": scene.image_id,
            "way": way,
            "shown": [
                {"category_id": each, "iou": iou, "stability": stability}
                for each, (iou, stability) in shown.items()
            ],
            **region.facts,
        }
        yield row, region.vectors


def _masks(scene: _Scene) -> Iterator[tuple[str, Mask]]:
    """(what was done, mask) of a scene, each way once."""
    rng, own = scene.rng, scene.objects[0][1]
    others = [mask for _, mask in scene.objects[1:]]
    yield "none", own
    if others:
        taken = 1 + int(rng.random() * len(others))
        yield "with_neighbours", np.asarray(np.any([own, *others[:taken]], axis=0))
        yield "neighbour", others[int(rng.random() * len(others))]
    for place in np.argsort([rng.random() for _ in WAYS])[:_DAMAGES].tolist():
        if (found := damaged(own, rng, WAYS[place], scene.outline)) is not None:
            yield found.way, found.mask
