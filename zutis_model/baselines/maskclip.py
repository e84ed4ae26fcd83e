"""MaskCLIP: dense classification with a CLIP that was never trained for it (Zhou et al. 2022).

The baseline that needs no training: the values of CLIP's last attention, place by place, compared
with texts. It is MaskCLIP without its two refinements (key smoothing and prompt denoising,
section 3.2), which is how the ReCo reference uses it (`networks/dense_clip.py`).

    tokens = maskclip_tokens(clip, clip.normalise(images))
    labels = semantic_labels(tokens, text_embeddings, size=images.shape[-2:])

Dimensions:
    b     images in the batch
    h, w  image rows, columns
    r, c  patch rows, columns
    d     width of the joint embedding
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

from zutis_model.clip.dense import check_is_dense, value_tokens
from zutis_model.clip.towers import Clip
from zutis_model.layers.input_checks import check_images
from zutis_model.layers.precision import autocast


@torch.inference_mode()
def maskclip_tokens(clip: Clip, images: Tensor) -> Tensor:
    """CLIP's embedding of each patch.

    Positions are resized as in ZUTIS (see `zutis_model.clip.dense`), so that both are compared on
    the same grid; MaskCLIP's own code resizes them to the exact size.

    Args:
        clip: with one of CLIP's ViTs or ResNets as its image tower.
        images: float32 [b, 3, h, w], normalised with CLIP's own statistics (`Clip.normalise`);
            any size from one patch. Pixels beyond the last whole patch are not seen.

    Returns:
        float32 [b, r, c, d] on the model's device, unit norm.

    Raises:
        ValueError: images of another shape or type, smaller than a patch, or with NaN; or an image
            tower without patch tokens.
    """
    check_images(images)
    tower = check_is_dense(clip.model.visual)
    with autocast(clip.device, clip.precision):
        tokens = value_tokens(tower, images.to(clip.device))
    return F.normalize(tokens.float(), dim=-1)
