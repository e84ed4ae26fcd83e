"""Pseudo-masks: SelfMask's mask of highest objectness, refined by the bilateral solver.

As in the ZUTIS reference (datasets/index_dataset.py): shorter side resized (bilinear), query of
highest objectness, threshold 0.5, solver at that size, nearest neighbour back to the original
size, COCO RLE. An image that can't be masked keeps its row, with the reason.

With several objects an image, the masks of all confident queries that no better one covers are
refined in the same way, and each is taken apart into its objects (`zutis_model.regions.pieces`);
an image has a row for each.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pyarrow.compute as pc

from storage.artifacts.fingerprints import Recipe, unless_default
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.errors.exceptions import ConfigError, ImageRejected
from storage.images.decoding import decoded
from storage.images.masks import run_lengths
from storage.images.memory_budget import DECODING, hold_for_file
from storage.images.records import read_parquet
from tasks.indexing.source_images import read_source_image
from tasks.masking.mask_table import (
    BLANK_MASK,
    FULL_MASK,
    MOST_OBJECTS,
    STAGE,
    TOO_ELONGATED,
    mask_row,
    publish_masks,
)
from tasks.stage.contract import PartOfPlan, Progress, plan_parts, waiting
from tasks.stage.layout import MASK_PLAN
from tasks.stage.models import ModelConfig, load_selfmask_model

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from zutis_model.saliency.selfmask import SelfMask

NAME = STAGE
VERSION = 2  # 2: the compiled solver, which breaks ties differently in single pixels

# Attention needs memory in the square of the pixels: an image of 8 : 1 would need as much as sixty
# ordinary ones.
_MOST_ELONGATED = 8.0
_THRESHOLD = 0.5
# Bytes per pixel of a mask of full size: resized, as bool, and in column order for RLE.
_MASKS_BYTES = 4

RefineInput = Literal["original", "reference"]
Objects = Literal["one", "many"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the masks.

    Attributes:
        selfmask: the SelfMask network.
        mask_size: shorter side of the network's input, pixels.
        batch_size: images of equal shape per forward pass. On a CPU larger batches gain nothing,
            and with single images a mask is independent of the rest of the batch.
        refine_input: the image to whose edges a mask is refined: the `original`, at the network's
            size, or that of the `reference`, recovered from the network's input by truncation.
        bit_depth: for images of more than 8 bits per channel, which are masked separately: the
            bits by which they are scaled, 0 for those that each image uses. None for all others.
        objects: whether an image has one mask or a mask of each object.
        threads: threads that decode and refine. Not part of the key.
    """

    selfmask: ModelConfig
    mask_size: int = 512
    batch_size: int = 1
    refine_input: RefineInput = "original"
    bit_depth: int | None = None
    objects: Objects = "one"
    threads: int = os.cpu_count() or 1

    def __post_init__(self) -> None:
        if not 32 <= self.mask_size <= 4096:
            raise ConfigError(f"mask_size is {self.mask_size}: choose 32 to 4096 pixels.")
        if self.refine_input not in get_args(RefineInput):
            raise ConfigError(
                f"refine_input is {self.refine_input!r}: choose original or reference."
            )
        if self.objects not in get_args(Objects):
            raise ConfigError(f"objects is {self.objects!r}: choose one or many.")

    @property
    def recipe(self) -> Recipe:
        return Recipe(
            stage=NAME,
            version=VERSION,
            config={
                **self.selfmask.identity,
                "mask_size": self.mask_size,
                "batch_size": self.batch_size,
                **unless_default(self, "refine_input", "bit_depth", "objects"),
            },
            weights={"selfmask": self.selfmask.weights.digest},
        )


def locate(config: Config, inputs: PartOfPlan, store: ArtifactStore) -> ArtifactRef:
    part = plan_parts(store.get(inputs.plan))[inputs.part]
    return ArtifactRef(NAME, config.recipe.key_of_digest(part["digest"]))


def run(config: Config, inputs: PartOfPlan, store: ArtifactStore, progress: Progress) -> Artifact:
    """Mask one part of a plan.

    Raises:
        CorpusError: an image is missing or has changed since it was indexed.

    Publishes `masks.parquet`, sorted by image_id: image_id, height and width (of the upright
    image, pixels), counts (COCO RLE), objectness and area (0 to 1), border_contact (share of the
    border that is mask), components (8-connected), refiner_agreement (IoU with the mask before
    refinement; of several objects, of the query's mask that they come from), reject_reason (empty
    for a usable mask). With several objects an image also the columns of `SEVERAL_SCHEMA`; an image
    without any has one row, with the reason.
    """
    images = _images_of_part(store.get(inputs.plan), inputs.part)
    with waiting(progress, "loading SelfMask"):
        network = load_selfmask_model(config.selfmask)
    rows: list[dict[str, Any]] = []
    for of_image in _rows(images, network, config):
        rows += of_image
        progress.advance(1, rejected=of_image[0]["reject_reason"])
    rows.sort(key=lambda row: str(row["image_id"]))
    return publish_masks(
        locate(config, inputs, store), config.recipe, inputs, rows,
        images=len(images), objects=config.objects,
        notes={"selfmask": config.selfmask.weights.label}, store=store,
    )  # fmt: skip


def _images_of_part(plan: Artifact, part: int) -> list[dict[str, Any]]:
    with plan.open(MASK_PLAN) as file:
        table = read_parquet(file)
    rows: list[dict[str, Any]] = table.filter(pc.equal(table["part"], part)).to_pylist()
    return rows


@dataclass
class _Loaded:
    """An image at the network's size, and its original size."""

    image_id: str
    height: int
    width: int
    pixels: np.ndarray  # uint8 [h, w, 3]


def _rows(
    images: list[dict[str, Any]], network: SelfMask, config: Config
) -> Iterator[list[dict[str, Any]]]:
    """The rows of each image, images in any order. Threads decode ahead of the network and refine
    its masks."""
    ahead = 2 * max(config.batch_size, config.threads)
    unusable: list[dict[str, Any]] = []
    refining: deque[Future[list[dict[str, Any]]]] = deque()
    with ThreadPoolExecutor(config.threads, thread_name_prefix="mask") as pool:
        try:
            loaded = _load_all(images, config, pool, ahead, unusable)
            for batch in _batches(loaded, config.batch_size):
                for prediction in _predict(batch, network, config):
                    refining.append(pool.submit(_refine, prediction, config.objects))
                while len(refining) > ahead:
                    yield refining.popleft().result()
            while refining:
                yield refining.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    yield from ([row] for row in unusable)


def _load_all(
    images: list[dict[str, Any]],
    config: Config,
    pool: ThreadPoolExecutor,
    ahead: int,
    unusable: list[dict[str, Any]],
) -> Iterator[_Loaded]:
    """Decode up to `ahead` images ahead; rows of unusable images are appended to `unusable`."""
    waiting: deque[Future[_Loaded | dict[str, Any]]] = deque()
    iterator = iter(images)
    while True:
        for image in islice(iterator, ahead - len(waiting)):
            waiting.append(pool.submit(_load, image, config))
        if not waiting:
            return
        loaded = waiting.popleft().result()
        if isinstance(loaded, _Loaded):
            yield loaded
        else:
            unusable.append(loaded)


def _load(image: dict[str, Any], config: Config) -> _Loaded | dict[str, Any]:
    image_id = str(image["image_id"])
    with hold_for_file(image["length"]):
        data = read_source_image(image)
        try:
            with decoded(data, bit_depth=config.bit_depth or 0) as found:
                if max(found.image.size) > _MOST_ELONGATED * min(found.image.size):
                    raise ImageRejected(TOO_ELONGATED)
                pixels = np.asarray(_resize_shorter_side(found.image, config.mask_size))
                return _Loaded(image_id, found.height, found.width, pixels)
        except ImageRejected as rejected:
            return mask_row(image_id, reject_reason=rejected.reason)


def _resize_shorter_side(image: Image.Image, size: int) -> Image.Image:
    from torchvision.transforms.functional import InterpolationMode, resize

    resized: Image.Image = resize(image, [size], interpolation=InterpolationMode.BILINEAR)
    return resized


def _batches(images: Iterable[_Loaded], batch_size: int) -> Iterator[list[_Loaded]]:
    """Batches of equal shape, each as soon as it is full; incomplete ones come last."""
    filling: dict[tuple[int, ...], list[_Loaded]] = {}
    for image in images:
        batch = filling.setdefault(image.pixels.shape, [])
        batch.append(image)
        if len(batch) == batch_size:
            yield filling.pop(image.pixels.shape)
    yield from filling.values()


@dataclass
class _Prediction:
    """The network's masks of an image, at the network's size, from the best on.

    Attributes:
        unrefined: bool [n, h, w].
        guide: uint8 [h, w, 3], the image to whose edges they are to be refined; or None.
        refined: bool [n, h, w], where a GPU has refined them already.
        objectness: [n].
    """

    image: _Loaded
    unrefined: np.ndarray
    guide: np.ndarray | None
    refined: np.ndarray | None
    objectness: list[float]


def _predict(batch: list[_Loaded], network: SelfMask, config: Config) -> Iterator[_Prediction]:
    import torch

    from zutis_model.layers.normalisation import denormalise, normalise

    pixels = torch.from_numpy(np.stack([image.pixels for image in batch])).permute(0, 3, 1, 2)
    pixels = pixels.to(next(network.parameters()).device)
    normalised = normalise(pixels)
    if config.objects == "one":
        soft, objectness = network.predict(normalised)
        found = list(zip(soft[:, None], objectness[:, None], strict=True))
    else:
        found = network.predict_several(normalised)
    masks = [soft > _THRESHOLD for soft, _ in found]
    guides = denormalise(normalised) if config.refine_input == "reference" else pixels
    to_refine: Sequence[np.ndarray | None] = [None] * len(batch)
    refined: Sequence[np.ndarray | None] = to_refine
    if pixels.is_cuda:  # a GPU refines faster than threads, and threads faster than CPU tensors
        refined = _refine_on_device(guides, masks)
    else:
        to_refine = list(guides.permute(0, 2, 3, 1).numpy())
    scores = [objectness.float().cpu().tolist() for _, objectness in found]
    unrefined = [each.cpu().numpy() for each in masks]
    yield from map(_Prediction, batch, unrefined, to_refine, refined, scores)


def _refine_on_device(pixels: torch.Tensor, masks: list[torch.Tensor]) -> list[np.ndarray]:
    """The masks of each image, [n, h, w], refined to the edges of its pixels, [b, 3, h, w]."""
    import torch

    from zutis_model.refinement.batched_bilateral_solver import refine_masks_batched

    numbers = torch.tensor([len(each) for each in masks], device=pixels.device)
    guides = pixels.repeat_interleave(numbers, dim=0)
    refined = (refine_masks_batched(guides, torch.cat(masks)) > _THRESHOLD).cpu().numpy()
    return np.split(refined, np.cumsum([len(each) for each in masks])[:-1])


def _refine(prediction: _Prediction, objects: Objects) -> list[dict[str, Any]]:
    """Refine an image's masks and compute its rows."""
    refined = _refined(prediction)
    if objects == "one":
        [unrefined], [mask], [objectness] = prediction.unrefined, refined, prediction.objectness
        return [_row_of_mask(prediction.image, unrefined, mask, objectness)]
    return _rows_of_objects(prediction, refined)


def _refined(prediction: _Prediction) -> np.ndarray:
    """bool [n, h, w]."""
    from zutis_model.refinement.bilateral_solver import refine_mask

    if prediction.guide is None:
        assert prediction.refined is not None, "without a guide, the masks are refined already"
        return prediction.refined
    guide = np.ascontiguousarray(prediction.guide)
    return np.stack([refine_mask(guide, mask) > _THRESHOLD for mask in prediction.unrefined])


def _row_of_mask(
    image: _Loaded, unrefined: np.ndarray, refined: np.ndarray, objectness: float
) -> dict[str, Any]:
    from zutis_model.refinement.mask_statistics import mask_statistics

    statistics = mask_statistics(refined, unrefined)
    with DECODING.hold(_MASKS_BYTES * image.height * image.width):
        mask = _resize_nearest(refined, image.height, image.width)
        if not mask.any() or mask.all():
            reason = FULL_MASK if mask.any() else BLANK_MASK
            return mask_row(
                image.image_id,
                height=image.height,
                width=image.width,
                objectness=objectness,
                area=float(mask.any()),
                reject_reason=reason,
            )
        return mask_row(
            image.image_id,
            height=image.height,
            width=image.width,
            counts=run_lengths(mask)["counts"],
            objectness=objectness,
            area=float(mask.mean()),
            border_contact=statistics.border_contact,
            components=statistics.components,
            refiner_agreement=statistics.refiner_agreement,
        )


def _rows_of_objects(prediction: _Prediction, refined: np.ndarray) -> list[dict[str, Any]]:
    """A row for each object of the masks; a row with the reason where there is none."""
    from zutis_model.refinement.mask_statistics import intersection_over_union
    from zutis_model.regions.pieces import distinct, objects_in

    pieces = [(place, objects_in(mask)) for place, mask in enumerate(refined)]
    # Of one list for all queries: a part's whole is found by counting the queries' before.
    masks = [piece.mask for _, found in pieces for piece in found]
    queries = [place for place, found in pieces for _ in found]
    wholes = [
        -1 if piece.part_of is None else queries.index(place) + piece.part_of
        for place, found in pieces
        for piece in found
    ]
    same = distinct(masks)
    agreement = [*map(intersection_over_union, refined, prediction.unrefined)]
    rows: dict[int, dict[str, Any]] = {}
    for place, mask in enumerate(masks):
        if same[place] != place or len(rows) == MOST_OBJECTS:
            continue
        query = queries[place]
        row = _row_of_mask(prediction.image, mask, mask, prediction.objectness[query])
        if not row["reject_reason"]:
            number = {"object": len(rows), "part_of": _whole(place, wholes, same, rows)}
            rows[place] = row | number | {"refiner_agreement": agreement[query]}
    if not rows:
        first = _row_of_mask(
            prediction.image, prediction.unrefined[0], refined[0], prediction.objectness[0]
        )
        return [_rejected(first)]
    return list(rows.values())


def _whole(
    place: int, wholes: Sequence[int], same: Sequence[int], rows: dict[int, dict[str, Any]]
) -> int:
    """The number of the object that a piece is a part of; -1 where it is apart."""
    whole = wholes[place]
    while whole >= 0:
        if same[whole] in rows:
            return int(rows[same[whole]]["object"])
        whole = wholes[whole]
    return -1


def _rejected(row: dict[str, Any]) -> dict[str, Any]:
    """The row of a mask with no object: of specks alone, it is as good as blank."""
    left_out = {"counts": "", "reject_reason": row["reject_reason"] or BLANK_MASK}
    return row | left_out | {"object": 0, "part_of": -1}


def _resize_nearest(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """Nearest neighbour as in `torch.nn.functional.interpolate`: the floor of the position."""
    import torch

    resized = torch.nn.functional.interpolate(
        torch.from_numpy(mask.astype(np.uint8))[None, None], size=(height, width), mode="nearest"
    )
    return np.asarray(resized[0, 0].numpy().astype(bool))
