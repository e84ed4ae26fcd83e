"""Training criterion of ZUTIS: cross entropy of the semantic maps plus the mask loss.

Shin et al. 2023; the numbers are those of the reference (`criterion.py`). The cross entropy
trains the encoder, through the patch tokens; the mask loss trains the decoder.

Dimensions:
    b     images in the batch
    l     decoder layers
    q     queries
    h, w  rows, columns of proposals and of patch tokens (the two may differ)
    H, W  rows, columns of the targets
    n     instances of an image
    k     categories, the background included
    d     width of text embeddings
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

from zutis_model.layers.precision import autocast
from zutis_model.training.mask_losses import Matches, mask_loss

IGNORE_INDEX = 255


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Weights of the terms; the defaults are the reference's.

    Attributes:
        ce: of the semantic cross entropy.
        mask: of the mask loss.
        dice: of the dice loss within the mask loss, in the matching too.
        bce: of the binary cross entropy within the mask loss, in the matching too.
        ce_scale: factor of cosines before the semantic cross entropy. The reference has none,
            which is a factor of 1; CLIP itself was trained with up to 100, and small networks
            with short training need more than 1, too.

    Raises:
        ValueError: a weight is negative or not finite.
    """

    ce: float = 1.0
    mask: float = 1.0
    dice: float = 1.0
    bce: float = 1.0
    ce_scale: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            weight = getattr(self, field.name)
            if not (math.isfinite(weight) and weight >= 0):
                raise ValueError(f"weight {field.name} must be finite and at least 0, got {weight}")


DEFAULT_WEIGHTS = LossWeights()


@dataclass(frozen=True, eq=False)
class Losses:
    """The criterion's losses of a batch, with gradients.

    Attributes:
        loss: scalar, `weights.ce * ce_loss + weights.mask * mask_loss`.
        ce_loss: scalar, unweighted.
        mask_loss: scalar, of weighted dice and binary cross entropy.
        matches: per image, for inspection.
    """

    loss: Tensor
    ce_loss: Tensor
    mask_loss: Tensor
    matches: tuple[Matches, ...]


def criterion(
    mask_proposals: Tensor,
    patch_tokens: Tensor,
    text_embeddings: Tensor,
    semantic_masks: Tensor,
    instance_masks: Sequence[Tensor],
    *,
    weights: LossWeights = DEFAULT_WEIGHTS,
    ignore_index: int = IGNORE_INDEX,
    object_weights: Sequence[Tensor] | None = None,
) -> Losses:
    """Losses of a batch, computed in float32 (float64 for such inputs), within autocast too.

    A NaN in the network's output is no error but makes the loss NaN, so that training can see it
    and stop: any NaN in the proposals, and a NaN in a token that a counted pixel is made from.

    Args:
        mask_proposals: float [b, l, q, h, w] or, for one layer, [b, q, h, w]; probabilities.
        patch_tokens: float [b, h, w, d], unit norm.
        text_embeddings: float [k, d], unit norm; row 0 is the background.
        semantic_masks: integer [b, H, W], 0..k-1 or `ignore_index`; any device.
        instance_masks: b of bool [n, H, W], each with an n of its own, 0 included; any device.
        weights: of the terms.
        ignore_index: label of pixels that the cross entropy leaves out; not a category. If it
            leaves out all, the cross entropy is 0.
        object_weights: b of float [n], at least 0: factors of each instance's losses, the cross
            entropy of its pixels and the mask loss of its query. Pixels of no instance have the
            factor 1, and the divisors are those without factors: numbers of pixels and images. An
            instance of factor 0 is as good as absent. None, or all 1: no factors.

    Returns:
        The losses, and the matching of queries and instances.

    Raises:
        ValueError: shapes or types don't fit together, a label is no category, a proposal is
            outside 0..1, or a factor is negative or not finite.
    """
    if mask_proposals.ndim == 4:
        mask_proposals = mask_proposals.unsqueeze(1)
    _check_predictions(mask_proposals, patch_tokens, text_embeddings)
    _check_targets(mask_proposals.shape[0], semantic_masks, instance_masks)
    _check_labels(semantic_masks, len(text_embeddings), ignore_index)
    _check_object_weights(object_weights, instance_masks)
    if object_weights is not None and all(bool((each == 1).all()) for each in object_weights):
        object_weights = None  # the sum of products would be rounded otherwise

    # Under autocast the products would run in half precision, and torch refuses the binary
    # cross entropy.
    with autocast(mask_proposals.device, "float32"):
        ce = semantic_cross_entropy(
            _at_least_float32(patch_tokens),
            _at_least_float32(text_embeddings),
            semantic_masks,
            ignore_index,
            weights.ce_scale,
            _pixel_weights(semantic_masks.shape, instance_masks, object_weights),
        )
        mask, matches = mask_loss(
            _at_least_float32(mask_proposals),
            instance_masks,
            dice_weight=weights.dice,
            bce_weight=weights.bce,
            instance_weights=object_weights,
        )
    return Losses(
        loss=weights.mask * mask + weights.ce * ce, ce_loss=ce, mask_loss=mask, matches=matches
    )


def semantic_cross_entropy(
    patch_tokens: Tensor,
    text_embeddings: Tensor,
    semantic_masks: Tensor,
    ignore_index: int,
    scale: float = 1.0,
    pixel_weights: Tensor | None = None,
) -> Tensor:
    """Mean cross entropy of the pixels that are not ignored, 0 if all are.

    Args:
        patch_tokens: float [b, h, w, d].
        text_embeddings: float [k, d].
        semantic_masks: integer [b, H, W], 0..k-1 or `ignore_index`; any device.
        ignore_index: label of ignored pixels.
        scale: see `LossWeights.ce_scale`.
        pixel_weights: float [b, H, W], factors of the pixels' cross entropies, which don't count
            in the mean's divisor; None: no factors.

    Returns:
        Scalar with gradient.
    """
    # The reference upsamples the tokens, then projects. Both are linear, so they commute; this
    # way round there are k channels to upsample and not d. It uses the cosines as logits, without
    # a temperature.
    texts = scale * text_embeddings.to(patch_tokens)
    cosines = torch.einsum("bhwd,kd->bkhw", patch_tokens, texts)
    logits = F.interpolate(cosines.contiguous(), size=semantic_masks.shape[1:], mode="bilinear")
    labels = semantic_masks.to(logits.device, torch.int64)
    if pixel_weights is None:
        total = F.cross_entropy(logits, labels, ignore_index=ignore_index, reduction="sum")
    else:
        each = F.cross_entropy(logits, labels, ignore_index=ignore_index, reduction="none")
        total = (each * pixel_weights.to(each)).sum()
    # torch's own mean is NaN where all pixels are ignored.
    return total / (labels != ignore_index).sum().clamp(min=1)


def _pixel_weights(
    shape: Sequence[int], instance_masks: Sequence[Tensor], object_weights: Sequence[Tensor] | None
) -> Tensor | None:
    """Each pixel's factor, float32 [b, H, W], that of its instance; None without factors."""
    if object_weights is None:
        return None
    factors = torch.ones(*shape)
    for image, masks, weights in zip(factors, instance_masks, object_weights, strict=True):
        for mask, weight in zip(masks.cpu(), weights.tolist(), strict=True):
            image.masked_fill_(mask, weight)
    return factors


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _check_predictions(proposals: Tensor, tokens: Tensor, text_embeddings: Tensor) -> None:
    for name, tensor, dimensions, shape in (
        ("mask_proposals", proposals, 5, "[b, l, q, h, w] or [b, q, h, w]"),
        ("patch_tokens", tokens, 4, "[b, h, w, d]"),
        ("text_embeddings", text_embeddings, 2, "[k, d]"),
    ):
        if not tensor.is_floating_point() or tensor.ndim != dimensions or tensor.numel() == 0:
            raise ValueError(
                f"{name} must be float {shape}, got {tensor.dtype} {list(tensor.shape)}"
            )
    if len(tokens) != len(proposals):
        raise ValueError(
            f"patch_tokens are of {len(tokens)} images and mask_proposals of {len(proposals)}"
        )
    if tokens.shape[-1] != text_embeddings.shape[-1]:
        raise ValueError(
            f"patch_tokens have width {tokens.shape[-1]} and text_embeddings "
            f"{text_embeddings.shape[-1]}"
        )


def _check_targets(
    batch_size: int, semantic_masks: Tensor, instance_masks: Sequence[Tensor]
) -> None:
    if semantic_masks.ndim != 3 or len(semantic_masks) != batch_size or not semantic_masks.numel():
        raise ValueError(
            f"semantic_masks must be [{batch_size}, H, W], got {list(semantic_masks.shape)}"
        )
    if len(instance_masks) != batch_size:
        raise ValueError(f"instance_masks are of {len(instance_masks)} images, not {batch_size}")
    size = semantic_masks.shape[1:]
    for image, masks in enumerate(instance_masks):
        if masks.dtype != torch.bool or masks.ndim != 3 or masks.shape[1:] != size:
            raise ValueError(
                f"instance_masks of image {image} must be bool [n, {size[0]}, {size[1]}], "
                f"got {masks.dtype} {list(masks.shape)}"
            )


def _check_object_weights(
    object_weights: Sequence[Tensor] | None, instance_masks: Sequence[Tensor]
) -> None:
    if object_weights is None:
        return
    shapes = [list(each.shape) for each in object_weights]
    if shapes != [[len(masks)] for masks in instance_masks]:
        raise ValueError(
            f"object_weights must be of {[len(masks) for masks in instance_masks]} instances, got "
            f"shapes {shapes}"
        )
    if not all(bool(((each >= 0) & each.isfinite()).all()) for each in object_weights):
        raise ValueError("object_weights must be finite and at least 0")


def _check_labels(semantic_masks: Tensor, categories: int, ignore_index: int) -> None:
    """On a GPU, a label out of range would make it unusable for the process."""
    if semantic_masks.is_floating_point() or semantic_masks.dtype == torch.bool:
        raise ValueError(f"semantic_masks must be integers, got {semantic_masks.dtype}")
    if 0 <= ignore_index < categories:
        raise ValueError(f"ignore_index {ignore_index} is one of the {categories} categories")
    labels = semantic_masks.to(torch.int64)
    wrong = labels[((labels < 0) | (labels >= categories)) & (labels != ignore_index)]
    if len(wrong):
        raise ValueError(
            f"semantic_masks hold the label {wrong[0]}, neither in 0..{categories - 1} "
            f"nor ignore_index {ignore_index}"
        )
