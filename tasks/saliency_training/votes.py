"""SelfMask's pseudo-masks: a mask of the salient object of an image, without any label.

Shin et al. 2022, section 3: clusters of patches, for several sources of features and several
numbers of clusters, are candidates, which vote for one of them. The paper uses the winner directly;
here the bilateral solver refines it to the image's edges, because patches are coarse.

Dimensions:
    h, w  rows, columns of an image
    r, c  patch rows, columns of one source
    n     candidates
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from storage.errors.exceptions import ConfigError
from storage.errors.numbers import check_numbers
from tasks.saliency_training.patch_features import Pixels

if TYPE_CHECKING:
    from collections.abc import Callable

    Features = Callable[[Pixels, int], NDArray[np.float32]]
    """A source: `patch_features.PatchFeatures`, or anything that is called like it."""

Mask = NDArray[np.bool_]

_THRESHOLD = 0.5
_SOLVERS_SIDE = 256  # shorter side from which on the solver's cells have the reference's size
_SIGMA_SPATIAL = 16.0
_SMALLEST_SIGMA = 4.0


@dataclass(frozen=True, kw_only=True)
class VoteConfig:
    """Settings of pseudo-masks.

    Attributes:
        cluster_counts: numbers of clusters, in the paper 2, 3 and 4; each source gives as many
            candidates as their sum.
        patches: approximate number of patches of an image.
        refined: whether the winner is refined to the image's edges.
        least_agreement: lowest mean IoU of a winner with the other candidates; below it there is
            no mask. 0: any winner is a mask.
    """

    cluster_counts: tuple[int, ...] = (2, 3, 4)
    patches: int = 576
    refined: bool = True
    least_agreement: float = 0.0

    def __post_init__(self) -> None:
        check_numbers(self)
        if not self.cluster_counts or min(self.cluster_counts) < 2:
            raise ConfigError(f"cluster_counts is {self.cluster_counts}: choose numbers from 2.")
        if not 16 <= self.patches <= 4096:
            raise ConfigError(f"patches is {self.patches}: choose 16 to 4096.")
        if not 0 <= self.least_agreement <= 1:
            raise ConfigError(f"least_agreement is {self.least_agreement}: choose 0 to 1.")


@dataclass(frozen=True, eq=False)
class PseudoMask:
    """The mask of an image's salient object.

    Attributes:
        mask: bool [h, w], not empty.
        agreement: of the candidates, 0..1; see `zutis_model.saliency.voting.Vote`.
    """

    mask: Mask
    agreement: float


def pseudo_masks(
    images: Sequence[Pixels], sources: Sequence[Features], config: VoteConfig | None = None
) -> Iterator[PseudoMask | None]:
    """`pseudo_mask` of each image, in order.

    Raises:
        ConfigError: there is no source.
    """
    if not sources:
        raise ConfigError("Pseudo-masks need features: name one source or more.")
    for pixels in images:
        yield pseudo_mask(pixels, sources, config or VoteConfig())


def pseudo_mask(
    pixels: Pixels, sources: Sequence[Features], config: VoteConfig
) -> PseudoMask | None:
    """The pseudo-mask of one image; None without a winner.

    Args:
        pixels: uint8 [h, w, 3], RGB.
        sources: of features, one or more.
        config: settings.
    """
    from zutis_model.saliency.voting import elect_salient

    grids = [_clusters(source(pixels, config.patches), config) for source in sources]
    size = (pixels.shape[0], pixels.shape[1])
    candidates = np.concatenate([_stretched(grid, size) for grid in grids])
    vote = elect_salient(candidates)
    if vote is None or vote.agreement < config.least_agreement:
        return None
    mask = candidates[vote.index]
    if config.refined:
        winner = [candidate for grid in grids for candidate in grid][vote.index]
        mask = refined(pixels, _smoothly_stretched(winner, size))
    return PseudoMask(mask, vote.agreement) if mask.any() else None


def refined(pixels: Pixels, target: NDArray[np.generic]) -> Mask:
    """A mask refined to an image's edges by the bilateral solver: bool [h, w].

    The solver's cells of 16 pixels are meant for photographs; in small images they are smaller in
    proportion, to preserve details.
    """
    from zutis_model.refinement.bilateral_solver import refine_mask

    share = min(pixels.shape[:2]) / _SOLVERS_SIDE
    sigma = min(max(_SIGMA_SPATIAL * share, _SMALLEST_SIGMA), _SIGMA_SPATIAL)
    return refine_mask(pixels, target, sigma_spatial=sigma) > _THRESHOLD


def _clusters(features: NDArray[np.float32], config: VoteConfig) -> Mask:
    """Every cluster as a mask: bool [n, r, c]. Numbers of clusters above that of the patches are
    skipped."""
    from zutis_model.saliency.spectral_clusters import spectral_clusters

    patches = features.shape[0] * features.shape[1]
    counts = [count for count in config.cluster_counts if count <= patches]
    labels = spectral_clusters(features, counts)
    masks = [each == cluster for each, count in zip(labels, counts, strict=True)
             for cluster in range(count)]  # fmt: skip
    return np.array(masks, dtype=np.bool_).reshape(-1, *features.shape[:2])


def _stretched(masks: Mask, size: tuple[int, int]) -> Mask:
    """bool [n, r, c] to [n, h, w], nearest neighbour."""
    rows, columns = (
        (np.arange(side) * cells) // side for side, cells in zip(size, masks.shape[1:], strict=True)
    )
    stretched: Mask = masks[:, rows[:, None], columns]
    return stretched


def _smoothly_stretched(mask: Mask, size: tuple[int, int]) -> NDArray[np.float32]:
    """bool [r, c] to float32 [h, w] in 0..1, bilinear."""
    image = Image.fromarray(mask.astype(np.float32))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR)).clip(0, 1)
