"""Measurement of regions: what networks and geometry say of a mask, whatever its category.

Everything here is class-agnostic, so that a region is measured once for all vocabularies: CLIP's
embeddings are compared with texts later (`label_signals`).

Dimensions:
    m     masks of an image
    d     width of CLIP's joint embedding
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from zutis_model.refinement.mask_statistics import intersection_over_union
from zutis_model.regions.shape import MaskShape, mask_shape
from zutis_model.regions.views import region_views

if TYPE_CHECKING:
    import torch

    from zutis_model.clip.towers import Clip
    from zutis_model.saliency.selfmask import SelfMask

Mask = npt.NDArray[np.bool_]

VECTORS: Final = ("tight", "wide", "inside", "ring", "rest", "whole")
"""A region's vectors in the joint embedding: of its two views, and means of the whole image's dense
features inside the mask, in a ring around it, elsewhere, and of the whole image."""

REGION_FIELDS: Final = (
    ("stability", pa.float32()),
    ("refiner_agreement", pa.float32()),
    ("area", pa.float32()),
    ("border_contact", pa.float32()),
    ("components", pa.int32()),
    ("largest_piece", pa.float32()),
    ("solidity", pa.float32()),
    ("extent", pa.float32()),
    ("elongation", pa.float32()),
    ("holes", pa.float32()),
)
"""Columns of a region in tables: `Region.facts`."""

SECOND_LOOK: Final = 160
"""Side of SelfMask's second look, pixels. Its time grows with the square of the area: at 160 it
costs a twentieth of a look at 512."""

_THRESHOLD = 0.5


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sides of the squares that the networks see, pixels.

    Attributes:
        view: a view of a region; CLIP's own size.
        dense: the whole image, for CLIP's dense features.
        second_look: the whole image, for SelfMask's second prediction.
    """

    view: int
    dense: int
    second_look: int


def sizes_for(clip_size: int) -> Sizes:
    """What the networks see, for a CLIP of that input size."""
    return Sizes(view=clip_size, dense=clip_size, second_look=SECOND_LOOK)


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """An image and its masks as the networks see them.

    Attributes:
        views: uint8 [2 m, v, v, 3]: the tight and the wide view of each mask in turn.
        dense: uint8 [s, s, 3], the whole image.
        second_look: uint8 [t, t, 3], the whole image, mirrored.
        masks: bool [m, s, s], as small as `dense`.
        second_masks: bool [m, t, t], not mirrored.
        shapes: of each mask at its own size.
        refiner_agreement: of each mask at the small size, IoU with itself after refinement.
    """

    views: npt.NDArray[np.uint8]
    dense: npt.NDArray[np.uint8]
    second_look: npt.NDArray[np.uint8]
    masks: Mask
    second_masks: Mask
    shapes: tuple[MaskShape, ...]
    refiner_agreement: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Region:
    """What is known of one region.

    Attributes:
        vectors: float32 [6, d], see `VECTORS`; views of unit norm, means not normalised.
        shape: of the mask.
        stability: IoU with the best of SelfMask's masks of the image mirrored and small, 0..1.
        refiner_agreement: IoU of the mask, small, before and after the bilateral solver, 0..1.
    """

    vectors: npt.NDArray[np.float32]
    shape: MaskShape
    stability: float
    refiner_agreement: float

    @property
    def facts(self) -> dict[str, Any]:
        """What tables have of it, by the names of `REGION_FIELDS`."""
        return {
            "stability": self.stability,
            "refiner_agreement": self.refiner_agreement,
            **asdict(self.shape),
        }


def prepared(image: Image.Image, masks: Sequence[Mask], sizes: Sizes) -> PreparedImage:
    """Make what the networks need of an image; needs no network, so that threads can do it ahead.

    Args:
        image: RGB.
        masks: at least one, bool [h, w] of the image's size, each with a pixel.
        sizes: of the squares.
    """
    from zutis_model.refinement.bilateral_solver import refine_mask

    dense = _squeezed(image, sizes.dense)
    small = _squeezed(image, sizes.second_look)
    second_masks = np.stack([_squeezed_mask(mask, sizes.second_look) for mask in masks])
    refined = [refine_mask(small, mask) > _THRESHOLD for mask in second_masks]
    return PreparedImage(
        views=np.concatenate([region_views(image, mask, sizes.view) for mask in masks]),
        dense=dense,
        second_look=np.ascontiguousarray(small[:, ::-1]),
        masks=np.stack([_squeezed_mask(mask, sizes.dense) for mask in masks]),
        second_masks=second_masks,
        shapes=tuple(mask_shape(mask) for mask in masks),
        refiner_agreement=tuple(map(intersection_over_union, second_masks, refined)),
    )


def measured(images: Sequence[PreparedImage], clip: Clip, selfmask: SelfMask) -> list[list[Region]]:
    """The regions of each image, in one pass of each network.

    Args:
        images: prepared for sizes that suit the networks, all for the same.
    """
    from zutis_model.baselines.maskclip import maskclip_tokens
    from zutis_model.regions.pooling import pooled_features

    views = clip.embed_images(_clip_input(clip, np.concatenate([each.views for each in images])))
    tokens = maskclip_tokens(clip, _clip_input(clip, np.stack([each.dense for each in images])))
    proposals = _second_masks(selfmask, np.stack([each.second_look for each in images]))
    pairs = iter(views.cpu().numpy().reshape(-1, 2, views.shape[-1]))
    found = []
    for image, features, others in zip(images, tokens.cpu().numpy(), proposals, strict=True):
        found.append([
            Region(
                vectors=np.concatenate([next(pairs), pooled_features(features, mask)]),
                shape=shape,
                stability=max(intersection_over_union(small, other) for other in others),
                refiner_agreement=agreement,
            )
            for mask, small, shape, agreement in zip(
                image.masks, image.second_masks, image.shapes, image.refiner_agreement, strict=True
            )
        ])  # fmt: skip
    return found


def _clip_input(clip: Clip, pixels: npt.NDArray[np.uint8]) -> torch.Tensor:
    import torch

    return clip.normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2).to(clip.device))


def _second_masks(selfmask: SelfMask, mirrored: npt.NDArray[np.uint8]) -> Mask:
    """All queries' masks of mirrored images, mirrored back: bool [b, q, t, t]."""
    import torch
    import torch.nn.functional as F  # noqa: N812 - the field's name for it

    from zutis_model.layers.normalisation import normalise

    pixels = torch.from_numpy(mirrored).permute(0, 3, 1, 2).to(selfmask.device)
    with torch.inference_mode():
        soft = selfmask(normalise(pixels)).mask_pred
    # Squares of whole patches: nothing was padded.
    masks = F.interpolate(soft, size=mirrored.shape[1:3], mode="bilinear") > _THRESHOLD
    return np.asarray(masks.flip(-1).cpu().numpy())


def _squeezed(image: Image.Image, side: int) -> npt.NDArray[np.uint8]:
    """The whole image as a square: equal shapes make batches, and sides differ little."""
    return np.array(image.resize((side, side), Image.Resampling.BICUBIC))


def _squeezed_mask(mask: Mask, side: int) -> Mask:
    """Pixels that are mask by half or more; where there is none, the one that is most."""
    shares = np.asarray(
        Image.fromarray(mask).convert("L").resize((side, side), Image.Resampling.BOX)
    )
    return np.asarray(shares >= min(128, max(1, int(shares.max()))))
