"""Instances of an image: mask proposals with a category, a score and a box (Shin et al. 2023).

A proposal's category is that of the text embedding nearest to the mean patch token inside its
mask; overlapping masks of one category are then suppressed. As in the ZUTIS reference
(`networks/zutis.py`, `predict`), categories and scores are decided at the proposals' resolution,
and overlaps at that of the result; only proposals of an object are ever upsampled.

Dimensions:
    b     images in the batch
    l     decoder layers
    q     queries, one mask proposal each
    h, w  rows, columns of proposals and tokens
    H, W  rows, columns of the result
    k     categories; 0 is the background
    d     width of the joint embedding
    n     instances in one image
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, TypeVar, get_args

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from pycocotools import mask as coco_mask
from torch import Tensor

from zutis_model.layers.precision import autocast
from zutis_model.zutis.mask_suppression import (
    Suppression,
    check_suppression,
    intersections_within_categories,
    suppress_by_intersections,
    suppress_overlapping,
)
from zutis_model.zutis.mask_upsampling import blocks_of_masks, upsampled_masks
from zutis_model.zutis.run_length_masks import RunLengthMasks, RunLengths
from zutis_model.zutis.semantic_prediction import check_embeddings, check_size

BoxFormat = Literal["xywh", "xyxy"]
_Value = TypeVar("_Value", int, str)

_BACKGROUND = 0
MOST_PIXELS = 2**28
"""Of all masks of an image: 256 MiB. Above, they are never held together."""

_BYTES_AT_ONCE = 2**25


class _Settings(TypedDict):
    """Of suppression, by the names of its arguments."""

    suppression: Suppression | None
    suppression_threshold: float
    sigma: float
    score_threshold: float


class Instances:
    """The instances of one image, by falling score; equal scores by category, then by query.

    Args:
        category_ids, scores, boxes: see the attributes.
        masks: bool [n, H, W]; or as run lengths, where that is too much to hold.

    Attributes:
        category_ids: int64 [n] in 1..k-1: rows of the text embeddings.
        scores: float32 [n] in 0..1.
        boxes: float32 [n, 4]: x1, y1, x2, y2 of the outermost pixels, inclusive, so a mask of one
            pixel has x1 = x2 and y1 = y2.
    """

    def __init__(
        self, *, category_ids: Tensor, scores: Tensor, masks: Tensor | RunLengthMasks, boxes: Tensor
    ) -> None:
        self.category_ids = category_ids
        self.scores = scores
        self.boxes = boxes
        self._masks = masks

    @property
    def masks(self) -> Tensor:
        """bool [n, H, W], none of them empty; they may overlap. Of a large image, these are made
        each time, and may be gigabytes: `each_mask` gives one after the other."""
        return self._masks.tensor() if isinstance(self._masks, RunLengthMasks) else self._masks

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the masks."""
        if isinstance(self._masks, RunLengthMasks):
            return self._masks.size
        _, height, width = self._masks.shape
        return height, width

    def each_mask(self) -> Iterator[npt.NDArray[np.bool_]]:
        """The masks in their order, bool [H, W] each, of which one is held at a time."""
        if isinstance(self._masks, RunLengthMasks):
            yield from self._masks
        else:
            yield from self._masks.cpu().numpy()

    def run_lengths(self) -> list[RunLengths]:
        """The masks as COCO encodes them."""
        if isinstance(self._masks, RunLengthMasks):
            return list(self._masks.encoded)
        return _encode(self._masks)

    def chosen(self, which: Tensor) -> Instances:
        """Some of the instances; `which`: bool [n], or int64 with their places."""
        masks = self._masks
        if isinstance(masks, RunLengthMasks):
            places = which.nonzero()[:, 0] if which.dtype == torch.bool else which
            masks = masks.chosen(places.tolist())
        else:
            masks = masks[which]
        return Instances(category_ids=self.category_ids[which], scores=self.scores[which],
                         masks=masks, boxes=self.boxes[which])  # fmt: skip

    def cpu(self) -> Instances:
        """The same, on the CPU."""
        masks = self._masks if isinstance(self._masks, RunLengthMasks) else self._masks.cpu()
        return Instances(category_ids=self.category_ids.cpu(), scores=self.scores.cpu(),
                         masks=masks, boxes=self.boxes.cpu())  # fmt: skip


@torch.no_grad()
def predict_instances(
    mask_proposals: Tensor,
    patch_tokens: Tensor,
    text_embeddings: Tensor,
    *,
    size: tuple[int, int] | None = None,
    threshold: float = 0.5,
    temperature: float = 5.0,
    suppression: Suppression | None = "hard",
    suppression_threshold: float = 0.3,
    sigma: float = 0.5,
    score_threshold: float = 0.001,
) -> list[Instances]:
    """Find the instances in each image of a batch.

    A score is the mean of the proposal inside its mask times sigmoid(temperature x cosine) of
    its category. Proposals with an empty mask and those of the background are dropped. Full
    resolution is used for one image at a time: at most 256 MiB of masks, and on a GPU 32 MiB of
    upsampled proposals, or one. Of an image whose objects' proposals would have more, one mask is
    held at a time, and on a GPU those of the proposals as bits; the result is the same.

    Args:
        mask_proposals: float [b, q, h, w], or [b, l, q, h, w], of which the last layer is used;
            probabilities, 0..1.
        patch_tokens: float [b, h, w, d], unit norm along d.
        text_embeddings: float [k, d], unit rows, the background first. With the background alone
            there are no instances.
        size: (H, W) of the masks, rows first; None: (h, w).
        threshold: 0..1; a mask is where the proposal is strictly above it.
        temperature: above 0.
        suppression: `hard`, `linear`, `gaussian` or None for all instances as they are; see
            `mask_suppression.suppress_overlapping` for it and the arguments after it.
        suppression_threshold: IoU in 0..1.
        sigma: above 0.
        score_threshold: at least 0.

    Returns:
        One entry for each image, on the device of the proposals; n may be 0.

    Raises:
        ValueError: other shapes or types, proposals that don't lie in 0..1, tokens or text
            embeddings that aren't finite, widths that differ, no category, or a setting outside
            its range.
    """
    check_size(size)
    _check_scoring(threshold, temperature)
    check_suppression(suppression, suppression_threshold, sigma, score_threshold)
    proposals = mask_proposals[:, -1] if mask_proposals.ndim == 5 else mask_proposals
    check_embeddings(patch_tokens, text_embeddings)
    _check_proposals(proposals, patch_tokens)

    proposals = proposals.float()
    category_ids, scores = _classify(
        proposals, patch_tokens.float(), text_embeddings.float(), threshold, temperature
    )
    suppression_settings: _Settings = {
        "suppression": suppression,
        "suppression_threshold": suppression_threshold,
        "sigma": sigma,
        "score_threshold": score_threshold,
    }
    found = []
    for image in zip(proposals, category_ids, scores, strict=True):
        candidates = _objects(*image)
        height, width = size or candidates.proposals.shape[1:]
        if size is None or len(candidates.scores) * height * width <= MOST_PIXELS:
            found.append(_instances(candidates, size, threshold, suppression_settings))
        else:
            found.append(_large_instances(candidates, size, threshold, suppression_settings))
    return found


def coco_predictions(
    instances: Instances,
    image_id: int,
    *,
    category_of_label: Mapping[int, int] | None = None,
    names: Mapping[int, str] | None = None,
    box_format: BoxFormat = "xywh",
) -> list[dict[str, Any]]:
    """Instances of an image in COCO's result format; plain numbers and strings, ready for JSON.

    For average precision of masks with pycocotools, leave `bbox` out of what `COCO.loadRes` is
    given: where there is one, `loadRes` replaces the area by the box's, and the split into
    small, medium and large objects with it.

    Args:
        instances: of one image.
        image_id: COCO's number of the image.
        category_of_label: the data set's category id of each of our categories; None: ours.
        names: the name of each category, by the id that is *written*, as in the reference: the
            data set's where `category_of_label` is given.
        box_format: `xywh` is COCO's: x, y, width, height with width = x2 - x1 + 1. `xyxy`
            writes the corners x1, y1, x2, y2, as the reference does; COCO tools misread them.

    Returns:
        A dictionary for each instance, in the same order: `image_id`, `image_size` (rows,
        columns), `category_id`, `segmentation` (run-length encoding, `counts` as text), `area`
        (pixels of the mask), `bbox`, `score`, and with names `pred_class`.

    Raises:
        ValueError: unknown box format, or a category that a mapping lacks.
    """
    if box_format not in get_args(BoxFormat):
        raise ValueError(f"box_format must be xywh or xyxy, got {box_format!r}")
    boxes = instances.boxes
    if box_format == "xywh":
        top_left, bottom_right = boxes[:, :2], boxes[:, 2:]
        boxes = torch.cat([top_left, bottom_right - top_left + 1], dim=1)

    predictions = []
    for label, score, box, run_lengths in zip(
        instances.category_ids.tolist(),
        instances.scores.tolist(),
        boxes.tolist(),
        instances.run_lengths(),
        strict=True,
    ):
        category_id = label
        if category_of_label is not None:
            category_id = _look_up(category_of_label, label, "category_of_label")
        prediction = {
            "image_id": image_id,
            "image_size": list(instances.size),
            "category_id": category_id,
            "segmentation": {
                "size": run_lengths["size"],
                "counts": run_lengths["counts"].decode("ascii"),
            },
            "area": int(coco_mask.area(run_lengths)),
            "bbox": box,
            "score": score,
        }
        if names is not None:
            prediction["pred_class"] = _look_up(names, category_id, "names")
        predictions.append(prediction)
    return predictions


def _check_scoring(threshold: float, temperature: float) -> None:
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must be in 0..1, got {threshold}")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")


def _check_proposals(proposals: Tensor, patch_tokens: Tensor) -> None:
    if not proposals.is_floating_point() or proposals.ndim != 4:
        raise ValueError(
            "mask_proposals must be float [b, q, h, w] or [b, l, q, h, w], "
            f"got {proposals.dtype} {list(proposals.shape)}"
        )
    b, _, *grid = proposals.shape
    if [b, *grid] != list(patch_tokens.shape[:3]):
        raise ValueError(
            f"mask_proposals {list(proposals.shape)} and patch_tokens "
            f"{list(patch_tokens.shape)} differ in batch, rows or columns"
        )
    if proposals.numel():
        lowest, highest = (x.item() for x in proposals.aminmax())
        # A NaN is neither below nor above anything, and becomes both extremes.
        if not 0 <= lowest <= highest <= 1:
            raise ValueError(
                f"mask_proposals must be probabilities in 0..1, got values {lowest}..{highest}"
            )


def _classify(
    proposals: Tensor,
    patch_tokens: Tensor,
    text_embeddings: Tensor,
    threshold: float,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """Category, int64 [b, q], and score, float32 [b, q], of every proposal."""
    masks = (proposals > threshold).float()
    areas = masks.sum(dim=(-2, -1))
    mean_proposals = (proposals * masks).sum(dim=(-2, -1)) / areas.clamp(min=1)

    # In float32 also under the caller's autocast: scores are compared with one another.
    with autocast(proposals.device, "float32"):
        # Of sum and mean alike, only the direction matters.
        pooled = torch.bmm(masks.flatten(2), patch_tokens.flatten(1, 2))
        cosines = F.normalize(pooled, dim=-1) @ text_embeddings.T  # [b, q, k]
    # Cosines, not probabilities: sigmoid rounds different large values to equal ones. An empty
    # mask pools to zero, which is equally similar to every category: the first one wins, and that
    # is the background.
    best_cosines, category_ids = cosines.max(dim=-1)
    return category_ids, mean_proposals * torch.sigmoid(best_cosines * temperature)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Candidates:
    """Proposals of an object: float32 [n, h, w], with int64 categories and float32 scores [n]."""

    proposals: Tensor
    category_ids: Tensor
    scores: Tensor


def _objects(proposals: Tensor, category_ids: Tensor, scores: Tensor) -> _Candidates:
    objects = category_ids != _BACKGROUND
    return _Candidates(
        proposals=proposals[objects], category_ids=category_ids[objects], scores=scores[objects]
    )


def _instances(
    candidates: _Candidates,
    size: tuple[int, int] | None,
    threshold: float,
    settings: _Settings,
) -> Instances:
    category_ids, scores = candidates.category_ids, candidates.scores
    masks = _binarise(candidates.proposals, size, threshold)

    kept, scores = suppress_overlapping(masks, scores, category_ids, **settings)
    # A mask can be lost on the way to the result's size. As in the reference it is dropped after
    # suppression, in which it may have been the best of its category.
    visible = masks.flatten(1).any(dim=1)[kept]
    kept, scores = kept[visible], scores[visible]

    order = _order(category_ids[kept], scores)
    masks = masks[kept[order]]
    return Instances(
        category_ids=category_ids[kept[order]],
        scores=scores[order],
        masks=masks,
        boxes=_boxes(masks),
    )


def _large_instances(
    candidates: _Candidates, size: tuple[int, int], threshold: float, settings: _Settings
) -> Instances:
    """The same as `_instances`, without ever holding all masks: pixels that masks have in common
    are counted a block of the image at a time, and those that are kept are made once more."""
    proposals, category_ids = candidates.proposals, candidates.category_ids
    common = np.zeros((len(proposals), len(proposals)), dtype=np.int64)
    if settings["suppression"] is not None:
        blocks = blocks_of_masks(proposals, size, threshold, bytes_at_once=_BYTES_AT_ONCE)
        for block in blocks:
            common += intersections_within_categories(block, category_ids)
    kept, scores = suppress_by_intersections(common, candidates.scores, category_ids, **settings)
    masks = RunLengthMasks.of(
        (
            _binarise(proposals[[index]], size, threshold)[0].cpu().numpy()
            for index in kept.tolist()
        ),
        size,
    )
    visible = torch.from_numpy(masks.areas() > 0).to(kept.device)
    masks, kept, scores = (
        masks.chosen(visible.nonzero()[:, 0].tolist()),
        kept[visible],
        scores[visible],
    )

    order = _order(category_ids[kept], scores)
    masks = masks.chosen(order.tolist())
    return Instances(
        category_ids=category_ids[kept[order]],
        scores=scores[order],
        masks=masks,
        boxes=masks.boxes().to(kept.device),
    )


def _order(category_ids: Tensor, scores: Tensor) -> Tensor:
    """By falling score, equal ones by category, then by query: int64 [n]."""
    by_category = category_ids.argsort(stable=True)
    return by_category[scores[by_category].argsort(descending=True, stable=True)]


def _binarise(proposals: Tensor, size: tuple[int, int] | None, threshold: float) -> Tensor:
    """Masks of proposals [n, h, w]: bool [n, H, W]."""
    if size is None:
        return proposals > threshold
    # The reference upsamples probabilities, not masks.
    return upsampled_masks(proposals, size, threshold)


def _boxes(masks: Tensor) -> Tensor:
    """Outermost pixels x1, y1, x2, y2 of masks [n, H, W], none of them empty: float32 [n, 4]."""
    columns, rows = masks.any(dim=1), masks.any(dim=2)
    x1, x2 = _first_and_last(columns)
    y1, y2 = _first_and_last(rows)
    return torch.stack([x1, y1, x2, y2], dim=1).float()


def _first_and_last(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """Of bool [n, length], the first and the last true index of each row: int64 [n] each."""
    first = occupied.byte().argmax(dim=1)  # the first of equal ones
    last = occupied.shape[1] - 1 - occupied.flip(1).byte().argmax(dim=1)
    return first, last


def _encode(masks: Tensor) -> list[RunLengths]:
    """Run-length encodings of bool [n, H, W]."""
    if len(masks) == 0:
        return []
    # pycocotools wants [H, W, n] in column-major order.
    columns_first = np.asfortranarray(masks.permute(1, 2, 0).cpu().numpy().astype(np.uint8))
    encodings: list[RunLengths] = coco_mask.encode(columns_first)
    return encodings


def _look_up(mapping: Mapping[int, _Value], category: int, name: str) -> _Value:
    if category not in mapping:
        raise ValueError(f"{name} has no entry for category {category}")
    return mapping[category]
