"""Mask loss: each instance supervises the query that is matched to it.

Set prediction as in DETR (Carion et al. 2020): the Hungarian algorithm assigns instances to
queries at the least total cost, dice plus binary cross entropy; the loss is the cost of the
assigned pairs. Numbers are those of the ZUTIS reference (`criterion.py`). It keeps the costs of
all pairs for the gradient; here they are matrix products without gradient, and only the assigned
pairs are computed again with it.

Dimensions:
    b     images in the batch
    l     decoder layers
    q     queries
    h, w  rows, columns of proposals
    H, W  rows, columns of instance masks
    n     instances of an image
    m     assigned pairs of an image and a layer: the smaller of n and q; 0 without any object
    r     rows: proposals of any image, layer and query
    p     pixels, H·W
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from scipy.optimize import linear_sum_assignment
from torch import Tensor

# Where torch's binary cross entropy cuts its logarithms off: probabilities of 0 and 1 cost this.
_SMALLEST_LOG = -100.0
# Upsampled proposals (and their logarithms) held at once while pairs are compared: 128 MiB each.
_CHUNK_ELEMENTS = 2**25


@dataclass(frozen=True, eq=False)
class Matches:
    """The matched queries and instances of one image; every layer is matched on its own.

    Attributes:
        query_indices: int64 [l, m] in 0..q-1, on the CPU.
        instance_indices: int64 [l, m] in 0..n-1, ascending in each layer, on the CPU.
    """

    query_indices: Tensor
    instance_indices: Tensor


def mask_loss(
    proposals: Tensor,
    instance_masks: Sequence[Tensor],
    *,
    dice_weight: float = 1.0,
    bce_weight: float = 1.0,
    instance_weights: Sequence[Tensor] | None = None,
) -> tuple[Tensor, tuple[Matches, ...]]:
    """Match instances to queries, and sum the costs of the pairs over layers and images.

    An image whose masks are all empty adds nothing and has no pairs, but an empty mask beside one
    that isn't empty takes a query, as in the reference. A batch without any object gives 0 with a
    graph, where the reference stops with an error. Where n is above q, the n - q instances that
    fit worst are left out.

    Args:
        proposals: float32 or float64 [b, l, q, h, w], probabilities; 0 and 1 are allowed. If one
            is NaN, nothing is matched; the loss is NaN and so is its gradient.
        instance_masks: b of bool [n, H, W], each with an n of its own, 0 included.
        dice_weight: of the dice loss, in the matching and in the loss.
        bce_weight: of the binary cross entropy (mean over pixels), likewise.
        instance_weights: b of float [n], at least 0: factors of the pairs' costs in the loss. Not
            in the matching, which would prefer instances of small factors where there are more
            instances than queries. One of factor 0 is not matched. None: no factors.

    Returns:
        loss: scalar, divided by b, but neither by l nor by the number of instances.
        matches: per image.

    Raises:
        ValueError: a proposal is outside 0..1.
    """
    batch_size, layers = proposals.shape[:2]
    lowest, highest = torch.stack(proposals.detach().aminmax()).tolist()
    if lowest < 0 or highest > 1:
        raise ValueError(f"mask proposals must be in 0..1, got {lowest:g}..{highest:g}")
    if math.isnan(lowest):
        no_pair = torch.empty(layers, 0, dtype=torch.int64)
        return (proposals * math.nan).sum(), (Matches(no_pair, no_pair),) * batch_size

    places = _counting(instance_masks, instance_weights)
    instance_masks = [
        masks if chosen is None else masks[chosen.to(masks.device)]
        for masks, chosen in zip(instance_masks, places, strict=True)
    ]
    counts = [len(masks) for masks in instance_masks]
    masks = torch.cat(list(instance_masks))
    has_object = torch.split(masks.flatten(1).any(dim=1).cpu(), counts)
    masks = masks.to(proposals.device, non_blocking=True)
    candidates = [
        image_masks if any_object.any() else image_masks[:0]
        for image_masks, any_object in zip(torch.split(masks, counts), has_object, strict=True)
    ]
    matches = match_instances(proposals, candidates, dice_weight=dice_weight, bce_weight=bce_weight)

    rows, instances = _flat_indices(matches, counts, queries=proposals.shape[2])
    factors = None
    if instance_weights is not None:
        known = [each[each != 0].cpu() for each in instance_weights]
        factors = torch.cat(known)[instances].to(proposals)
        matches = tuple(map(_renumbered, matches, places))
    dice, bce = _paired_losses(
        proposals.flatten(0, 2)[rows.to(proposals.device)],
        masks[instances.to(proposals.device)],
        factors,
    )
    return (dice_weight * dice + bce_weight * bce) / batch_size, matches


def _counting(
    instance_masks: Sequence[Tensor], instance_weights: Sequence[Tensor] | None
) -> list[Tensor | None]:
    """Of each image, indices of the instances whose factor is not 0; None for all."""
    if instance_weights is None:
        return [None] * len(instance_masks)
    return [torch.nonzero(weights).flatten().cpu() for weights in instance_weights]


def _renumbered(match: Matches, places: Tensor | None) -> Matches:
    """With the indices of the instances before those of factor 0 were taken out."""
    if places is None:
        return match
    return Matches(match.query_indices, places[match.instance_indices])


def match_instances(
    proposals: Tensor,
    instance_masks: Sequence[Tensor],
    *,
    dice_weight: float = 1.0,
    bce_weight: float = 1.0,
) -> tuple[Matches, ...]:
    """The cheapest assignment per image and layer (Hungarian algorithm, on the CPU).

    Args:
        proposals: float [b, l, q, h, w] in 0..1, no NaN.
        instance_masks: b of bool [n, H, W] on the same device. All of them are matched, empty
            ones too.
        dice_weight: of the dice loss.
        bce_weight: of the binary cross entropy.
    """
    layers, queries = proposals.shape[1:3]
    costs = [
        pairwise_mask_costs(
            image_proposals.flatten(0, 1), masks, dice_weight=dice_weight, bce_weight=bce_weight
        ).view(len(masks), layers, queries)
        for image_proposals, masks in zip(proposals, instance_masks, strict=True)
    ]
    # A second pass, so that a GPU has the work of all images before the first result is awaited.
    return tuple(_assign(image_costs.cpu().numpy()) for image_costs in costs)


@torch.no_grad()
def pairwise_mask_costs(
    proposals: Tensor, masks: Tensor, *, dice_weight: float = 1.0, bce_weight: float = 1.0
) -> Tensor:
    """Dice loss plus mean binary cross entropy of every pair, without gradient.

    Memory is that of a chunk of upsampled proposals, however many proposals and masks there are.

    Args:
        proposals: float [r, h, w] in 0..1, no NaN.
        masks: bool [n, H, W] on the same device.
        dice_weight: of the dice loss.
        bce_weight: of the binary cross entropy.

    Returns:
        float [n, r], the proposals' type.
    """
    if len(masks) == 0:
        return proposals.new_empty(0, len(proposals))
    size = (masks.shape[1], masks.shape[2])
    inside = masks.flatten(1).to(proposals.dtype)
    rows_at_once = max(1, _CHUNK_ELEMENTS // inside.shape[1])
    dice_and_bce = [
        _pairwise_dice_and_bce(_upsample(chunk, size), inside)
        for chunk in torch.split(proposals, rows_at_once)
    ]
    return torch.cat([dice_weight * dice + bce_weight * bce for dice, bce in dice_and_bce], dim=1)


def _pairwise_dice_and_bce(probabilities: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Two of [n, r] from [r, p], which is overwritten, and [n, p] of zeros and ones."""
    intersection = inside @ probabilities.T
    areas = inside.sum(dim=1)[:, None] + probabilities.sum(dim=1)
    dice = 1 - (2 * intersection + 1) / (areas + 1)

    log_likelihood = inside @ probabilities.log().clamp_(min=_SMALLEST_LOG).T
    # One product less would do: the sum of all log(1 - p) minus those inside. But their
    # difference loses the digits that decide between good masks.
    log_complement = probabilities.neg_().log1p_().clamp_(min=_SMALLEST_LOG)
    log_likelihood += (1 - inside) @ log_complement.T
    return dice, -log_likelihood / inside.shape[1]


def _assign(costs: npt.NDArray[np.floating]) -> Matches:
    """Costs [n, l, q] to the cheapest pairs of each layer."""
    # Instances first, as in the reference: the order decides between assignments of equal cost.
    pairs = [linear_sum_assignment(layer_costs) for layer_costs in costs.swapaxes(0, 1)]
    instance_indices, query_indices = np.stack(pairs, axis=1)
    return Matches(
        query_indices=torch.from_numpy(query_indices),
        instance_indices=torch.from_numpy(instance_indices),
    )


def _flat_indices(
    matches: Sequence[Matches], counts: Sequence[int], queries: int
) -> tuple[Tensor, Tensor]:
    """All pairs of the batch, int64 [pairs] each.

    Returns:
        rows: into the proposals of all images, layers and queries, b·l·q.
        instances: into the masks of all images, `sum(counts)`.
    """
    layers = len(matches[0].query_indices)
    first_row_of_layer = torch.arange(len(matches) * layers).view(-1, layers, 1) * queries
    first_instance = np.cumsum([0, *counts[:-1]]).tolist()
    rows = [
        (first_rows + match.query_indices).flatten()
        for first_rows, match in zip(first_row_of_layer, matches, strict=True)
    ]
    instances = [
        (first + match.instance_indices).flatten()
        for first, match in zip(first_instance, matches, strict=True)
    ]
    return torch.cat(rows), torch.cat(instances)


def _paired_losses(
    proposals: Tensor, masks: Tensor, factors: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Sums over pairs of dice loss and mean binary cross entropy, each pair times its factor.

    Args:
        proposals: float [r, h, w].
        masks: bool [r, H, W].
        factors: float [r]; None: all 1.

    The gradient is that of torch's own binary cross entropy, which is finite at 0 and 1.
    """
    probabilities = _upsample(proposals, (masks.shape[1], masks.shape[2]))
    targets = masks.flatten(1).to(probabilities.dtype)
    # Not a product of matrices: BLAS adds up so many pixels with relative errors of 1e-4.
    intersections = (probabilities * targets).sum(dim=1)
    areas = probabilities.sum(dim=1) + targets.sum(dim=1)
    dice = 1 - (2 * intersections + 1) / (areas + 1)
    of_pixels = None if factors is None else factors[:, None]
    bce = F.binary_cross_entropy(probabilities, targets, of_pixels, reduction="sum")
    return (dice if factors is None else dice * factors).sum(), bce / targets.shape[1]


def _upsample(proposals: Tensor, size: tuple[int, int]) -> Tensor:
    """Probabilities [r, h, w] at another size, flattened: [r, p], in new memory."""
    # Rows as the batch, not as channels: no row is allowed, no channel isn't.
    upsampled = F.interpolate(proposals[:, None], size=size, mode="bilinear")
    # Between ones, interpolation can round to 1 + 1e-7, where the cross entropy is NaN or, with
    # gradient, stops the program. Clamped behind autograd's back: the gradient passes unchanged.
    upsampled.detach().clamp_(0, 1)
    return upsampled.flatten(1)
