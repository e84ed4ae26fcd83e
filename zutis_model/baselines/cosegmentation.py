"""Reference embeddings by co-segmentation: one vector for a category, from images that show it.

From "ReCo: Retrieve and Co-segment for Zero-shot Transfer" (Shin, Xie and Albanie 2022), section 3,
and its code (github.com/NoelShin/reco, `networks/reco.py`), called the reference below. In every
retrieved image, the seed is the pixel that the other images resemble most; the mean of the seeds'
features is the category's reference embedding. Two kinds of weights keep the seeds off the
background that such images share: text attention (where does CLIP see the category?) and context
elimination (what looks like tree, sky, ...?). `reco` segments images with the result.

Dimensions:
    n       images retrieved for a category
    h, w    rows, columns of the encoder's feature grid
    h', w'  rows, columns of CLIP's feature grid
    p       pixels of a feature grid, h·w
    c       width of the encoder's features
    d       width of CLIP's joint embedding
    k       categories
    m       context categories
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

CONTEXT_CATEGORIES = ("tree", "sky", "building", "road", "person")
TEXT_TEMPERATURE = 10.0

Combine = Literal["mean", "weighted", "winner"]
Columns = Literal["paper", "reference"]

_WEIGHT_TOLERANCE = 1e-5  # resizing may leave 0..1 by a rounding error
_TIE_TOLERANCE = 1e-6  # relative: what rounding does to a sum of some hundred products


@dataclass(frozen=True, eq=False)
class ReferenceEmbedding:
    """The result of co-segmentation for one category.

    Attributes:
        embedding: float32 [c], unit norm.
        seeds: int64 [n, 2], each image's seed as (row, column) in the feature grid.
    """

    embedding: Tensor
    seeds: Tensor


@dataclass(frozen=True, eq=False)
class RetrievedFeatures:
    """Features of the images retrieved for one category, best match first.

    Attributes:
        features: float [n, h, w, c], the encoder's.
        clip_patch_tokens: float [n, h', w', d], dense CLIP features, any scale; None: no text
            attention.
        text_embedding: float [d], unit norm, of the category's name; None: no text attention.
    """

    features: Tensor
    clip_patch_tokens: Tensor | None = None
    text_embedding: Tensor | None = None


def text_attention(
    clip_patch_tokens: Tensor,
    text_embeddings: Tensor,
    size: tuple[int, int],
    temperature: float = TEXT_TEMPERATURE,
) -> Tensor:
    """How well each place fits each text: `sigmoid(temperature · cosine)`, resized.

    Section 3 of the paper; the reference's `_get_text_attention`, from which the temperature is.

    Args:
        clip_patch_tokens: float [n, h', w', d], dense CLIP features, any scale; a place whose
            feature is zero has cosine 0.
        text_embeddings: float [d] or [k, d], unit norm.
        size: rows and columns of the result, at least 1 each.
        temperature: factor of the cosine before the sigmoid.

    Returns:
        float32 [n, *size] for one text, [n, k, *size] for several, in 0..1.

    Raises:
        ValueError: another shape or type, widths that differ, not finite.
    """
    _check_features("clip_patch_tokens", clip_patch_tokens, 4)
    _check_features("text_embeddings", text_embeddings, 1 if text_embeddings.ndim == 1 else 2)
    _check_widths(clip_patch_tokens=clip_patch_tokens, text_embeddings=text_embeddings)
    if min(size) < 1:
        raise ValueError(f"size must be at least 1 x 1, got {tuple(size)}")
    texts_kd = text_embeddings.float().reshape(-1, text_embeddings.shape[-1])
    cosines = torch.einsum("nhwd,kd->nkhw", _unit(clip_patch_tokens), texts_kd)
    # The sigmoid comes before the resize, as in the reference: they don't commute.
    attention = F.interpolate((temperature * cosines).sigmoid(), size=size, mode="bilinear")
    return attention[:, 0] if text_embeddings.ndim == 1 else attention


def context_weights(features: Tensor, context_embeddings: Tensor) -> Tensor:
    """How little each place looks like any context: the product of `1 - sigmoid(cosine)`.

    Section 3 of the paper (context elimination); the reference's `_get_context_weights`. The
    cosine has no temperature: one context changes the weight only between 0.27 and 0.73.

    Args:
        features: float [n, h, w, c]; a place whose feature is zero has cosine 0.
        context_embeddings: float [m, c], reference embeddings of context categories; m may be 0.

    Returns:
        float32 [n, h, w] in 0..1; all ones if m is 0.

    Raises:
        ValueError: another shape or type, widths that differ, not finite.
    """
    _check_features("features", features, 4)
    _check_features("context_embeddings", context_embeddings, 2, may_be_empty=True)
    _check_widths(features=features, context_embeddings=context_embeddings)
    cosines = torch.einsum("nhwc,mc->nhwm", _unit(features), _unit(context_embeddings))
    return torch.sigmoid(-cosines).prod(dim=-1)  # sigmoid(-x) is 1 - sigmoid(x)


@torch.inference_mode()
def reference_embedding(
    features: Tensor,
    weights: Tensor | None = None,
    *,
    combine: Combine = "mean",
    columns: Columns = "reference",
    block_rows: int = 4096,
) -> ReferenceEmbedding:
    """The feature vector of the object that the images have in common.

    Section 3 of the paper; the reference's `_get_reference_image_feature`. A pixel's support is
    its highest weighted cosine to each image (see `columns`), averaged over the images, its own
    included; each image's seed is its pixel of highest support. The weights are those of the
    pixels compared with: a seed's own weight counts only in its own image's share.

    Takes O(n²p²c) time. Of the n·p x n·p cosines only `block_rows` x p exist at a time.

    Args:
        features: float [n, h, w, c], best match first. They are compared by cosine, and combined
            as they are: a longer feature weighs more in the mean. A zero feature has cosine 0 to
            all.
        weights: float [n, h, w] in 0..1; None: all ones.
        combine: `mean` of the seeds' features (the paper's); `weighted`, likewise with weights
            that fall linearly from 1 to 1/n in the order of the images; `winner`, the seed most
            similar to all seeds.
        columns: `reference` gave the published numbers: the reference code's slices of the cosine
            matrix are too long, and take the pixels of images i to 2i for those of image i (from
            0). `paper` compares with each image by its own pixels, as the paper describes it.
        block_rows: pixels compared with one image at a time; it only sets the memory.

    Returns:
        The unit-norm embedding and the seeds. Support that is equal up to rounding goes to the
        lowest index (row-major) in the image.

    Raises:
        ValueError: another shape or type, not finite, weights outside 0..1 or zero everywhere, an
            unknown setting, or the seeds' features add up to zero.
    """
    _check_features("features", features, 4)
    _check_settings(combine, columns, block_rows)
    if weights is not None:
        _check_weights(weights, features)
    width = features.shape[2]

    support = _support(_unit(features).flatten(1, 2), weights, columns, block_rows)
    best = support.amax(dim=1, keepdim=True)
    # Without the tolerance, the size of the blocks would decide between equal pixels.
    index = (support >= best - _TIE_TOLERANCE * best.abs()).int().argmax(dim=1)
    seeds = torch.stack([index // width, index % width], dim=1)

    images = torch.arange(len(features), device=features.device)
    seed_features = features.float().flatten(1, 2)[images, index]
    embedding = _combined(seed_features, combine)
    norm = embedding.norm()
    if norm == 0:
        raise ValueError("the seeds' features add up to zero, which has no direction")
    return ReferenceEmbedding(embedding=embedding / norm, seeds=seeds)


def cosegment(
    features: Tensor,
    clip_patch_tokens: Tensor | None = None,
    text_embedding: Tensor | None = None,
    context_embeddings: Tensor | None = None,
    *,
    combine: Combine = "mean",
    columns: Columns = "reference",
) -> ReferenceEmbedding:
    """A category's reference embedding, with text attention and context elimination.

    Section 3 of the paper; the reference's `_cosegment`.

    Args:
        features: float [n, h, w, c] of the retrieved images, best match first.
        clip_patch_tokens: float [n, h', w', d] of the same images; None: no text attention.
        text_embedding: float [d], unit norm; None: no text attention.
        context_embeddings: float [m, c]; None or m = 0: no context elimination. A context category
            must not be among its own contexts: see `cosegment_categories`.
        combine: see `reference_embedding`.
        columns: see `reference_embedding`.

    Returns:
        The unit-norm embedding and the seeds.

    Raises:
        ValueError: as its parts, or only one of `clip_patch_tokens` and `text_embedding` is given,
            or they are of another number of images.
    """
    _check_features("features", features, 4)
    weights = features.new_ones(features.shape[:3], dtype=torch.float32)
    if clip_patch_tokens is not None and text_embedding is not None:
        if len(clip_patch_tokens) != len(features) or text_embedding.ndim != 1:
            raise ValueError(
                f"expected clip_patch_tokens of {len(features)} images and text_embedding [d], "
                f"got {list(clip_patch_tokens.shape)} and {list(text_embedding.shape)}"
            )
        rows, width = features.shape[1:3]
        weights = weights * text_attention(clip_patch_tokens, text_embedding, (rows, width))
    elif clip_patch_tokens is not None or text_embedding is not None:
        raise ValueError("clip_patch_tokens and text_embedding must be given together")
    if context_embeddings is not None:
        weights = weights * context_weights(features, context_embeddings)
    return reference_embedding(features, weights, combine=combine, columns=columns)


def cosegment_categories(
    categories: Iterable[str],
    retrieve: Callable[[str], RetrievedFeatures],
    *,
    context_categories: Sequence[str] = CONTEXT_CATEGORIES,
    same_as_context: Mapping[str, str] | None = None,
    combine: Combine = "mean",
    columns: Columns = "reference",
) -> dict[str, ReferenceEmbedding]:
    """The reference embeddings of many categories.

    The contexts come first, each with those before it eliminated, so that none eliminates itself;
    their order is part of the result, as in the reference. Every category then has all of them
    eliminated, except one that is a context itself, which keeps the embedding it has as a context.

    Args:
        categories: names. Repeated ones are computed once.
        retrieve: gives a name's images; called once per context and category, so only one
            category's features need be in memory.
        context_categories: names of the contexts, in order; empty: no context elimination.
        same_as_context: categories that are another word for a context, whose embedding
            they share. The reference has `{"vegetation": "tree"}` built in, for Cityscapes and
            KITTI-STEP.
        combine: see `reference_embedding`.
        columns: see `reference_embedding`.

    Returns:
        Name to embedding, in the order of `categories`; contexts only if they are among these.

    Raises:
        ValueError: as `cosegment`, or `same_as_context` names no context.
    """
    same_as_context = same_as_context or {}
    for category, context in same_as_context.items():
        if context not in context_categories:
            raise ValueError(f"same_as_context maps {category!r} to {context!r}, no context")

    def embed(name: str, contexts: Mapping[str, ReferenceEmbedding]) -> ReferenceEmbedding:
        found = retrieve(name)
        others = [context.embedding for context in contexts.values()]
        return cosegment(
            found.features,
            found.clip_patch_tokens,
            found.text_embedding,
            torch.stack(others) if others else None,
            combine=combine,
            columns=columns,
        )

    contexts: dict[str, ReferenceEmbedding] = {}
    for name in context_categories:
        contexts[name] = embed(name, contexts)
    embeddings: dict[str, ReferenceEmbedding] = {}
    for name in dict.fromkeys(categories):
        shared = contexts.get(name) or contexts.get(same_as_context.get(name, name))
        embeddings[name] = shared or embed(name, contexts)
    return embeddings


def _support(unit_npc: Tensor, weights: Tensor | None, columns: Columns, block_rows: int) -> Tensor:
    """Mean over the images of a pixel's highest weighted cosine to each: float32 [n, p]."""
    pixels = unit_npc.flatten(0, 1)
    # Scaling a pixel's feature scales its cosines: this is the matrix's columns, weighted.
    targets = unit_npc if weights is None else unit_npc * weights.float().flatten(1)[..., None]
    best = pixels.new_empty(len(pixels), len(targets))
    for image, target_pc in enumerate(targets):
        for start in range(0, len(pixels), block_rows):
            block = slice(start, start + block_rows)
            best[block, image] = (pixels[block] @ target_pc.T).amax(dim=1)
    if columns == "reference":
        windows = [best[:, i : 2 * i + 1].amax(dim=1) for i in range(len(targets))]
        best = torch.stack(windows, dim=1)
    return best.mean(dim=1).reshape(unit_npc.shape[:2])


def _combined(seed_features: Tensor, combine: Combine) -> Tensor:
    """One vector [c], not normalised, from the seeds' features [n, c]."""
    if combine == "winner":
        unit = _unit(seed_features)
        return seed_features[(unit @ unit.T).sum(dim=1).argmax()]
    if combine == "weighted":
        number = len(seed_features)
        falling = 1 - torch.arange(number, device=seed_features.device) / number
        return falling @ seed_features / falling.sum()
    return seed_features.mean(dim=0)


def _unit(vectors: Tensor) -> Tensor:
    """float32 vectors of norm 1 along the last dimension; zero stays zero."""
    return F.normalize(vectors.float(), dim=-1)


def _check_features(
    name: str, features: Tensor, dimensions: int, *, may_be_empty: bool = False
) -> None:
    if not features.is_floating_point() or features.ndim != dimensions:
        raise ValueError(
            f"{name} must be float with {dimensions} dimensions, "
            f"got {features.dtype} {list(features.shape)}"
        )
    if features.numel() == 0 and not may_be_empty:
        raise ValueError(f"{name} must not be empty, got {list(features.shape)}")
    if not features.isfinite().all():
        raise ValueError(f"{name} must be finite, got infinity or NaN")


def _check_widths(**tensors: Tensor) -> None:
    widths = {name: tensor.shape[-1] for name, tensor in tensors.items()}
    if len(set(widths.values())) > 1:
        raise ValueError(f"the last dimensions must be equal, got {widths}")


def _check_settings(combine: str, columns: str, block_rows: int) -> None:
    if combine not in get_args(Combine):
        raise ValueError(f"combine must be one of {get_args(Combine)}, got {combine!r}")
    if columns not in get_args(Columns):
        raise ValueError(f"columns must be one of {get_args(Columns)}, got {columns!r}")
    if block_rows < 1:
        raise ValueError(f"block_rows must be at least 1, got {block_rows}")


def _check_weights(weights: Tensor, features: Tensor) -> None:
    if weights.shape != features.shape[:3]:
        raise ValueError(
            f"weights {list(weights.shape)} must have the shape {list(features.shape[:3])}"
        )
    low, high = weights.min().item(), weights.max().item()
    if not -_WEIGHT_TOLERANCE <= low <= high <= 1 + _WEIGHT_TOLERANCE:
        raise ValueError(f"weights must be in 0..1, got {low}..{high}")
    if high <= 0:
        raise ValueError("weights are zero everywhere: no pixel can support another")
