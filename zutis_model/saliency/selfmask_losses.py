"""SelfMask's losses: one saliency mask per image is the target of all queries.

Shin et al. 2022, section 3.3, and the reference's `criterion.py` (github.com/NoelShin/selfmask).
Every query of every decoder layer is trained to give the image's one mask (dice loss, without
matching), and objectness to rank the queries of a layer by the quality of their masks (ranking
loss).

Dimensions:
    b     images in the batch
    l     decoder layers
    q     queries
    h, w  rows, columns of the predicted masks
    H, W  rows, columns of the target masks
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

from zutis_model.saliency.selfmask import SelfMaskOutput


@dataclass(frozen=True, eq=False)
class SelfMaskLosses:
    """Scalars with a graph, sums over layers and queries (or pairs of them), means over images.

    Attributes:
        loss: the weighted sum of the others.
        dice: dice loss.
        ranking: ranking loss.
        cross_entropy: binary, mean over pixels.
    """

    loss: Tensor
    dice: Tensor
    ranking: Tensor
    cross_entropy: Tensor


def selfmask_losses(
    output: SelfMaskOutput,
    targets: Tensor,
    *,
    ranking_weight: float = 1.0,
    cross_entropy_weight: float = 0.0,
) -> SelfMaskLosses:
    """The losses of a batch.

    An image whose mask is empty adds nothing, but counts as an image, as in the reference.

    Args:
        output: of all layers: masks [b, l, q, h, w], objectness [b, l, q]. Masks are upsampled to
            the targets' size as probabilities (bilinear), as the reference does.
        targets: bool [b, H, W].
        ranking_weight: the paper's is 1.
        cross_entropy_weight: the paper has no cross entropy. A network that is trained from
            scratch learns faster with some, for dice hardly moves masks that are empty yet.

    Raises:
        ValueError: `output` is of one layer only, or the targets are not of that shape and type.
    """
    if output.mask_logits.ndim != 5:
        raise ValueError(
            f"output must be of all layers, [b, l, q, h, w], got {list(output.mask_logits.shape)}"
        )
    images = len(output.mask_logits)
    if targets.ndim != 3 or targets.dtype.is_floating_point or len(targets) != images:
        raise ValueError(
            f"targets must be bool [{images}, H, W], got {targets.dtype} {list(targets.shape)}"
        )
    with_object = targets.flatten(1).any(dim=1)
    inside = targets[with_object].flatten(1)[:, None, None].to(output.mask_logits.dtype)
    size = (targets.shape[1], targets.shape[2])
    probabilities = _upsample(output.mask_pred[with_object], size)
    dice = dice_loss(probabilities, inside)
    ranking = ranking_loss(output.objectness[with_object], dice.detach())
    entropy = _cross_entropy(probabilities, inside) if cross_entropy_weight else dice.new_zeros(())
    dice_sum, ranking_sum, entropy_sum = (
        each.sum() / max(images, 1) for each in (dice, ranking, entropy)
    )
    return SelfMaskLosses(
        loss=dice_sum + ranking_weight * ranking_sum + cross_entropy_weight * entropy_sum,
        dice=dice_sum,
        ranking=ranking_sum,
        cross_entropy=entropy_sum,
    )


def dice_loss(probabilities: Tensor, inside: Tensor) -> Tensor:
    """1 minus twice the overlap over the areas' sum, smoothed by 1 as in MaskFormer.

    Args:
        probabilities: float [..., pixels] in 0..1.
        inside: float, 0 or 1; broadcasts to the same shape.

    Returns:
        float [...].
    """
    overlap = (probabilities * inside).sum(dim=-1)
    areas = probabilities.sum(dim=-1) + inside.sum(dim=-1)
    return 1 - (2 * overlap + 1) / (areas + 1)


def ranking_loss(objectness: Tensor, badness: Tensor) -> Tensor:
    """The amounts by which worse masks are scored above better ones, summed over pairs of queries.

    A hinge without margin. Masks that are equally bad may be scored in any order; the reference,
    which sorts first, lets the sort decide.

    Args:
        objectness: float [..., q] in 0..1.
        badness: float [..., q]; the dice loss, without gradient: this is about the scores alone.

    Returns:
        float [...].
    """
    is_worse = badness[..., :, None] > badness[..., None, :]
    excess = objectness[..., :, None] - objectness[..., None, :]
    return (excess.clamp(min=0) * is_worse).sum(dim=(-2, -1))


def _cross_entropy(probabilities: Tensor, inside: Tensor) -> Tensor:
    """[b, l, q, pixels] to the mean over pixels, [b, l, q]."""
    targets = inside.expand_as(probabilities)
    return F.binary_cross_entropy(probabilities, targets, reduction="none").mean(dim=-1)


def _upsample(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Probabilities [b, l, q, h, w] at another size, flattened: [b, l, q, H·W]."""
    b, layers, queries = masks.shape[:3]
    # Rows as the batch, not as channels; see `mask_losses`, also for the clamp that autograd
    # doesn't see.
    rows = F.interpolate(masks.flatten(0, 2)[:, None], size=size, mode="bilinear")
    rows.detach().clamp_(0, 1)
    return rows.view(b, layers, queries, size[0] * size[1])
