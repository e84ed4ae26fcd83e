"""ReCo: segmenting images with reference embeddings, without any training.

From "ReCo: Retrieve and Co-segment for Zero-shot Transfer" (Shin, Xie and Albanie 2022), section 3,
and its code (github.com/NoelShin/reco, `networks/reco.py`), called the reference below. A place's
score for a category is its similarity to the category's reference embedding (`cosegmentation`),
times the attention that CLIP's text embedding pays it: language-guided inference. The reference
may refine its labels with a conditional random field; that is left out here.

Dimensions:
    b     images in the batch
    r, c  rows, columns of the encoder's feature grid
    r', c'  rows, columns of CLIP's feature grid
    h, w  image rows, columns
    e     width of the encoder's features
    d     width of CLIP's joint embedding
    k     categories
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

from zutis_model.baselines.cosegmentation import TEXT_TEMPERATURE, text_attention

BACKGROUND = -1

_CATEGORIES_PER_BLOCK = 16
_UNIT_TOLERANCE = 1e-2  # embeddings may have been stored in half precision


@dataclass(frozen=True, eq=False)
class Reco:
    """The categories to segment, and their embeddings.

    Attributes:
        reference_embeddings: float [k, e], unit norm, from `cosegmentation`; k at least 1.
        text_embeddings: float [k, d], unit norm, in the same order; None: language-guided
            inference is off.
        temperature: factor of the text cosine before its sigmoid.

    Raises:
        ValueError: another shape or type, rows that are not of unit norm, another number of texts.
    """

    reference_embeddings: Tensor
    text_embeddings: Tensor | None = None
    temperature: float = TEXT_TEMPERATURE

    def __post_init__(self) -> None:
        _check_embeddings("reference_embeddings", self.reference_embeddings)
        if self.text_embeddings is not None:
            _check_embeddings("text_embeddings", self.text_embeddings)
            if len(self.text_embeddings) != len(self.reference_embeddings):
                raise ValueError(
                    f"expected {len(self.reference_embeddings)} text_embeddings, "
                    f"got {len(self.text_embeddings)}"
                )

    @torch.inference_mode()
    def scores(
        self, features: Tensor, size: tuple[int, int], clip_patch_tokens: Tensor | None = None
    ) -> Tensor:
        """Each pixel's score for each category: the reference's output.

        Sigmoid, then upsampling, for similarity and attention alike, then the product. The grid is
        stretched over the image even where the encoder padded it or cut it off.

        Args:
            features: float [b, r, c, e], the encoder's; a place whose feature is zero has cosine 0.
            size: h and w.
            clip_patch_tokens: float [b, r', c', d], dense CLIP features, any scale; needed if and
                only if there are text embeddings.

        Returns:
            float32 [b, k, h, w] in 0..1. The similarity has no temperature: it lies within
            0.27..0.73, so that 0.5 is no natural threshold.

        Raises:
            ValueError: another shape or type, not finite, widths or batches that differ, CLIP
                features without text embeddings or the other way round.
        """
        self._check_inputs(features, size, clip_patch_tokens)
        return _product(self._maps(features, clip_patch_tokens), size)

    @torch.inference_mode()
    def labels(
        self,
        features: Tensor,
        size: tuple[int, int],
        clip_patch_tokens: Tensor | None = None,
        *,
        threshold: float | None = None,
    ) -> Tensor:
        """The category of highest score of each pixel.

        Only a few categories' scores are upsampled at a time.

        Args:
            features: see `scores`.
            size: see `scores`.
            clip_patch_tokens: see `scores`.
            threshold: pixels whose best score is below it are background; None, as in the
                reference: there is no background.

        Returns:
            int64 [b, h, w]: 0..k-1, the lowest where scores are equal; `BACKGROUND` is -1.

        Raises:
            ValueError: as `scores`.
        """
        self._check_inputs(features, size, clip_patch_tokens)
        maps = self._maps(features, clip_patch_tokens)
        best = features.new_full((len(features), *size), -1.0, dtype=torch.float32)
        labels = torch.full_like(best, BACKGROUND, dtype=torch.int64)
        for start in range(0, len(self.reference_embeddings), _CATEGORIES_PER_BLOCK):
            block = [scores[:, start : start + _CATEGORIES_PER_BLOCK] for scores in maps]
            score, label = _product(block, size).max(dim=1)
            better = score > best
            best = torch.where(better, score, best)
            labels = torch.where(better, label + start, labels)
        if threshold is not None:
            labels[best < threshold] = BACKGROUND
        return labels

    @torch.inference_mode()
    def masks(
        self, features: Tensor, size: tuple[int, int], clip_patch_tokens: Tensor | None = None
    ) -> Tensor:
        """Soft masks of each category, as pseudo-labels of images that are known to show it.

        The scores, stretched so that every mask's lowest is 0 and its highest 1. The reference has
        no such masks, only labels; but scores are in a narrow range that differs between
        categories, and readers of pseudo-labels take 0.5 for the boundary. In an image without the
        category the stretched mask is meaningless: use `labels`.

        Args:
            features: see `scores`.
            size: see `scores`.
            clip_patch_tokens: see `scores`.

        Returns:
            float32 [b, k, h, w] in 0..1; all zero where the scores are the same everywhere.

        Raises:
            ValueError: as `scores`.
        """
        scores = self.scores(features, size, clip_patch_tokens)
        low = scores.amin(dim=(2, 3), keepdim=True)
        extent = scores.amax(dim=(2, 3), keepdim=True) - low
        return (scores - low) / extent.clamp(min=torch.finfo(scores.dtype).tiny)

    def _maps(self, features: Tensor, clip_patch_tokens: Tensor | None) -> list[Tensor]:
        """Similarity [b, k, r, c] and, with texts, attention [b, k, r', c']: float32 in 0..1."""
        unit = F.normalize(features.float(), dim=-1)
        cosines = torch.einsum("brce,ke->bkrc", unit, self.reference_embeddings.float())
        maps = [cosines.sigmoid()]
        if clip_patch_tokens is not None and self.text_embeddings is not None:
            rows, columns = clip_patch_tokens.shape[1:3]
            maps.append(
                text_attention(
                    clip_patch_tokens, self.text_embeddings, (rows, columns), self.temperature
                )
            )
        return maps

    def _check_inputs(
        self, features: Tensor, size: tuple[int, int], clip_patch_tokens: Tensor | None
    ) -> None:
        width = self.reference_embeddings.shape[1]
        if not features.is_floating_point() or features.ndim != 4 or features.shape[3] != width:
            raise ValueError(
                f"features must be float [b, r, c, {width}], "
                f"got {features.dtype} {list(features.shape)}"
            )
        if features.numel() == 0 or not features.isfinite().all():
            raise ValueError(
                f"features must be finite and not empty, got {list(features.shape)} with "
                f"{features.numel() - int(features.isfinite().sum())} infinite or NaN"
            )
        if min(size) < 1:
            raise ValueError(f"size must be at least 1 x 1, got {tuple(size)}")
        if (clip_patch_tokens is None) != (self.text_embeddings is None):
            missing = "text_embeddings" if self.text_embeddings is None else "clip_patch_tokens"
            raise ValueError(f"language-guided inference also needs {missing}")
        if clip_patch_tokens is not None and len(clip_patch_tokens) != len(features):
            raise ValueError(
                f"expected clip_patch_tokens of {len(features)} images, "
                f"got {len(clip_patch_tokens)}"
            )


def _product(maps: list[Tensor], size: tuple[int, int]) -> Tensor:
    """The product [b, k, h, w] of maps [b, k, ?, ?], each resized first."""
    scores, *others = (F.interpolate(x, size=size, mode="bilinear") for x in maps)
    for other in others:
        scores *= other
    return scores


def _check_embeddings(name: str, embeddings: Tensor) -> None:
    if not embeddings.is_floating_point() or embeddings.ndim != 2 or embeddings.numel() == 0:
        raise ValueError(
            f"{name} must be float with 2 dimensions and at least one row, "
            f"got {embeddings.dtype} {list(embeddings.shape)}"
        )
    norms = embeddings.float().norm(dim=1)
    if not ((norms - 1).abs() < _UNIT_TOLERANCE).all():
        raise ValueError(
            f"{name} must have rows of norm 1, got norms {norms.min():.3g}..{norms.max():.3g}"
        )
