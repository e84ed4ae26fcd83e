"""Patch embedding by a few convolutions instead of one linear map.

Xiao et al. 2021, "Early convolutions help transformers see better", section 4: a vision
transformer with such a stem learns in far fewer steps, as training on two cores requires. Here the
stem has residual blocks, too (He et al. 2016): they detect edges and strokes within a patch.

Dimensions:
    b     images
    h, w  rows and columns of an image, at least 8
    e     width of the transformer
"""

from __future__ import annotations

from typing import Final

from timm.layers.norm import LayerNorm2d
from timm.models.convnext import ConvNeXtBlock
from torch import Tensor, nn

STRIDE: Final = 8
"""Pixels along the side of a token's patch."""

_WIDTHS: Final = (32, 64)
_KERNEL: Final = 7


class ConvolutionalStem(nn.Sequential):
    """In place of `conv1` of open_clip's VisionTransformer with patches of 8 pixels.

    Takes float [b, 3, h, w]; gives float [b, e, h // 8, w // 8]. As with patches, pixels beyond the
    last multiple of 8 are not seen.
    """

    def __init__(self, width: int) -> None:
        first, second = _WIDTHS
        super().__init__(
            _halving(3, first),
            LayerNorm2d(first),
            nn.GELU(),
            _halving(first, second),
            _block(second),
            _block(second),
            LayerNorm2d(second),
            _halving(second, width),
            _block(width),
            _block(width),
        )

    def forward(self, images: Tensor) -> Tensor:
        height, width = (side // STRIDE * STRIDE for side in images.shape[-2:])
        tokens: Tensor = nn.Sequential.forward(self, images[..., :height, :width])  # type: ignore[no-untyped-call]
        return tokens


def _halving(channels: int, out: int) -> nn.Conv2d:
    return nn.Conv2d(channels, out, 3, stride=2, padding=1)


def _block(channels: int) -> nn.Module:
    block: nn.Module = ConvNeXtBlock(channels, kernel_size=_KERNEL, ls_init_value=None)
    return block
