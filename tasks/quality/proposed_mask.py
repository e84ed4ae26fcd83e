"""The mask that SelfMask proposes for an image in memory, as the mask stage makes it.

Dimensions:
    h, w  rows, columns of an image
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

if TYPE_CHECKING:
    from zutis_model.saliency.selfmask import SelfMask

PROPOSED: Final = "proposed"
"""Name of such masks among damaged ones."""

_THRESHOLD = 0.5


def proposed_mask(
    pixels: npt.NDArray[np.uint8], selfmask: SelfMask, mask_size: int
) -> npt.NDArray[np.bool_] | None:
    """SelfMask's best mask, refined to edges; None where it is empty or the whole image.

    Args:
        pixels: uint8 [h, w, 3], RGB.
        selfmask: the network.
        mask_size: shorter side of its input, pixels.

    Returns:
        bool [h, w].
    """
    import torch
    from torchvision.transforms.functional import InterpolationMode, resize

    from zutis_model.layers.normalisation import normalise
    from zutis_model.refinement.bilateral_solver import refine_mask

    small = np.array(resize(Image.fromarray(pixels), [mask_size], InterpolationMode.BILINEAR))
    tensor = torch.from_numpy(small).permute(2, 0, 1)[None].to(selfmask.device)
    soft, _ = selfmask.predict(normalise(tensor))
    refined = refine_mask(small, (soft[0] > _THRESHOLD).cpu().numpy()) > _THRESHOLD
    height, width = pixels.shape[:2]
    mask = np.asarray(Image.fromarray(refined).resize((width, height), Image.Resampling.NEAREST))
    return mask if mask.any() and not mask.all() else None
