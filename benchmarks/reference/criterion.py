"""The criterion computed as the ZUTIS reference computes it: the baseline of `training_criterion`.

The same losses and gradients as `zutis_model.training.criterion`, by the operations of the
reference (`criterion.py`): tokens are upsampled at their full width and then projected to
categories; one image after the other, all layers' proposals are upsampled, and for each layer every
query is copied beside every instance, so that the binary cross entropy of all pairs is computed
pixel by pixel and kept for the gradient, though only the assigned pairs' is used. The costs of
those are picked and added one by one.

Dimensions: as in `zutis_model.training.criterion`, and p pixels, H·W.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from scipy.optimize import linear_sum_assignment
from torch import Tensor

_IGNORE_INDEX = 255


@dataclass(frozen=True, eq=False)
class ReferenceLosses:
    """Scalars with gradient: the unweighted sum, and its two terms."""

    loss: Tensor
    ce_loss: Tensor
    mask_loss: Tensor


def reference_criterion(
    mask_proposals: Tensor,
    patch_tokens: Tensor,
    text_embeddings: Tensor,
    semantic_masks: Tensor,
    instance_masks: Sequence[Tensor],
) -> ReferenceLosses:
    """Arguments as those of `training.criterion.criterion`; proposals are [b, l, q, h, w]."""
    # The reference looks for either extreme by itself.
    if not all(0 <= end() <= 1 for end in (mask_proposals.min, mask_proposals.max)):
        raise ValueError("mask_proposals must be in 0..1")
    ce = _cross_entropy(patch_tokens, text_embeddings, semantic_masks)
    total = torch.zeros((), requires_grad=True)
    for proposals, masks in zip(mask_proposals, instance_masks, strict=True):
        if masks.any():
            total = total + _image_loss(proposals, masks.float())
    mask = total / len(mask_proposals)
    return ReferenceLosses(loss=mask + ce, ce_loss=ce, mask_loss=mask)


def _cross_entropy(tokens: Tensor, text_embeddings: Tensor, semantic_masks: Tensor) -> Tensor:
    tokens = F.interpolate(
        tokens.permute(0, 3, 1, 2), size=semantic_masks.shape[1:], mode="bilinear"
    )
    logits = torch.einsum("kd,bdhw->bkhw", text_embeddings, tokens)
    return F.cross_entropy(logits, semantic_masks.long(), ignore_index=_IGNORE_INDEX)


def _image_loss(proposals: Tensor, masks: Tensor) -> Tensor:
    """Of [l, q, h, w] and [n, H, W]."""
    targets = masks.flatten(1)
    upsampled = F.interpolate(proposals, size=masks.shape[1:], mode="bilinear").flatten(2)
    loss = torch.zeros(())
    for layer in upsampled:
        loss = loss + _layer_loss(layer, targets)
    return loss


def _layer_loss(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Of [q, p] and [n, p]."""
    costs = _pairwise_dice(probabilities, targets).T + _pairwise_bce(probabilities, targets).T
    instances, queries = linear_sum_assignment(costs.detach().numpy())
    loss = torch.zeros(())
    for instance, query in zip(instances, queries, strict=True):
        loss = loss + costs[instance, query]
    return loss


def _pairwise_dice(probabilities: Tensor, targets: Tensor) -> Tensor:
    """[q, n]."""
    intersections = torch.einsum("qp,np->qn", probabilities, targets)
    areas = probabilities.sum(dim=1)[:, None] + targets.sum(dim=1)
    return 1 - (2 * intersections + 1) / (areas + 1)


def _pairwise_bce(probabilities: Tensor, targets: Tensor) -> Tensor:
    """[q, n], the mean over pixels of [q, n, p]."""
    every_query = probabilities[:, None].repeat(1, len(targets), 1)
    every_target = targets.repeat(len(probabilities), 1, 1)
    return F.binary_cross_entropy(every_query, every_target, reduction="none").mean(dim=2)
