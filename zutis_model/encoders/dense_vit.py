"""Dense features of small vision transformers: the encoder of ReCo (Shin, Xie and Albanie 2022).

The reference (github.com/NoelShin/reco, `networks/vit/`) takes the patch tokens of the last block,
after the final norm. Its default is a distilled DeiT-S/16 trained on stylised ImageNet
("DeiT-S/16-SIN", Naseer et al. 2021); DINO's ViT-S (Caron et al. 2021) is its alternative. The
transformers are timm's, and so are the architectures' names; parameters have the names of the
published state dicts.

Dimensions:
    b     images in the batch
    h, w  image rows, columns
    r, c  patch rows, columns
    d     width, 384
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from zutis_model.layers.input_checks import check_images
from zutis_model.layers.precision import Precision, autocast, check_precision
from zutis_model.layers.synthetic_weights import fill_with_synthetic_weights
from zutis_model.layers.vit_positions import resized_position_embedding
from zutis_model.layers.weight_loading import WithoutRandomInitialisation, load_strictly

_WIDTH = 384
_NUM_HEADS = 6
_NUM_LAYERS = 12
_TRAINING_IMAGE_SIZE = 224  # of the position embedding

_CLASSIFIER = frozenset({"head.weight", "head.bias"})
_DISTILLATION_CLASSIFIER = frozenset({"head_dist.weight", "head_dist.bias"})


@dataclass(frozen=True)
class _Architecture:
    """The differences between the transformers.

    Attributes:
        patch_size: pixels along a patch's side.
        distilled: has a distillation token beside the class token.
        unused: entries of the published state dict that dense features don't need.
    """

    patch_size: int
    distilled: bool = False
    unused: frozenset[str] = frozenset()


ARCHITECTURES: Mapping[str, _Architecture] = {
    "deit_small_distilled_patch16_224": _Architecture(
        16, distilled=True, unused=_CLASSIFIER | _DISTILLATION_CLASSIFIER
    ),
    "deit_small_patch16_224": _Architecture(16, unused=_CLASSIFIER),
    "vit_small_patch16_224.dino": _Architecture(16),
    "vit_small_patch8_224.dino": _Architecture(8),
}


class DenseVit(nn.Module):
    """The network. Use `load_dense_vit` to get one with weights.

    Args:
        architecture: one of `ARCHITECTURES`.
        precision: arithmetic of `encode`; its output is float32 either way.

    Raises:
        ValueError: unknown architecture or precision.
    """

    def __init__(self, architecture: str, precision: Precision = "float32") -> None:
        super().__init__()
        check_precision(precision)
        if architecture not in ARCHITECTURES:
            known = ", ".join(ARCHITECTURES)
            raise ValueError(f"architecture must be one of {known}, got {architecture!r}")
        self.precision: Precision = precision
        self.patch_size = ARCHITECTURES[architecture].patch_size
        self._distilled = ARCHITECTURES[architecture].distilled
        # Without a classifier. Its layer norms have an epsilon of 1e-6, as in the reference.
        build = VisionTransformerDistilled if self._distilled else VisionTransformer
        self.transformer = build(
            img_size=_TRAINING_IMAGE_SIZE,
            patch_size=self.patch_size,
            embed_dim=_WIDTH,
            depth=_NUM_LAYERS,
            num_heads=_NUM_HEADS,
            num_classes=0,
            # Initial weights take a second to draw and aren't kept. timm's distilled transformer
            # knows no "skip" in older versions.
            weight_init="" if self._distilled else "skip",
        )

    @property
    def device(self) -> torch.device:
        return self.transformer.get_parameter("pos_embed").device

    def encode(self, images: Tensor) -> Tensor:
        """Patch tokens of the last block, after the final norm.

        Sizes that are not a multiple of the patch size are treated as in the reference, which has
        two ways: zeros (the mean colour) are added at the right and the bottom, but the distilled
        transformer drops incomplete patches there. It gets zeros only where an image is smaller
        than one patch, which the reference refuses.

        Args:
            images: float32 [b, 3, h, w], normalised with the ImageNet statistics; any size from
                one pixel. Attention is over all r·c patches, so time grows with the square of the
                area.

        Returns:
            float32 [b, r, c, d], row-major; not normalised.

        Raises:
            ValueError: `images` has another shape or type or, outside of training, holds NaN.
        """
        check_images(images, training=self.training)
        with autocast(self.device, self.precision):
            patches: Tensor = self.transformer.patch_embed.proj(self._pad(images))
            rows, columns = patches.shape[-2:]
            prefix = self._prefix().expand(len(images), -1, -1)
            tokens = torch.cat([prefix, patches.flatten(2).transpose(1, 2)], dim=1)
            tokens = tokens + resized_position_embedding(
                self.transformer.get_parameter("pos_embed"), rows, columns, prefix.shape[1]
            )
            tokens = self.transformer.norm(self.transformer.blocks(tokens))
        patch_tokens: Tensor = tokens[:, prefix.shape[1] :].float()
        return patch_tokens.reshape(-1, rows, columns, _WIDTH)

    def _prefix(self) -> Tensor:
        """The tokens before the patches, class and distillation token: [1, 1 or 2, d]."""
        names = ("cls_token", "dist_token") if self._distilled else ("cls_token",)
        return torch.cat([self.transformer.get_parameter(name) for name in names], dim=1)

    def _pad(self, images: Tensor) -> Tensor:
        """Zeros at the right and the bottom. The projection drops patches that are incomplete then.

        They take part in the attention.
        """

        def missing(side: int) -> int:
            return max(self.patch_size - side, 0) if self._distilled else -side % self.patch_size

        height, width = images.shape[-2:]
        return F.pad(images, (0, missing(width), 0, missing(height)))


def load_dense_vit(
    architecture: str,
    state_dict: Mapping[str, Tensor | Mapping[str, Tensor]] | None = None,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    precision: Precision = "float32",
) -> DenseVit:
    """A dense encoder with weights, in eval mode.

    Args:
        architecture: one of `ARCHITECTURES`. For the reference's weights, `deit_s_sin_dist.pth`:
            `deit_small_distilled_patch16_224`.
        state_dict: the content of a published file: DINO's `dino_deitsmall8_pretrain.pth` and
            `dino_deitsmall16_pretrain.pth`, or DeiT's, whose weights are below the key `model` and
            whose classifiers are left out. None: the synthetic weights of `seed`.
        seed: see `synthetic_weights.synthetic_weight`.
        device: where the network lives; move the images there.
        precision: `float32`, or `bfloat16` (autocast) for speed where results may differ a little.

    Raises:
        ValueError: the state dict is of another model (the message names keys), or the
            architecture, the precision or the seed is not a valid one.
    """
    with WithoutRandomInitialisation():
        network = DenseVit(architecture, precision)
    if state_dict is None:
        fill_with_synthetic_weights(network.transformer, seed)
    else:
        unused = ARCHITECTURES[architecture].unused
        load_strictly(network.transformer, _weights(state_dict, unused), architecture)
    return network.to(device).eval().requires_grad_(False)


def _weights(
    checkpoint: Mapping[str, Tensor | Mapping[str, Tensor]], unused: frozenset[str]
) -> dict[str, Tensor]:
    """The transformer's own weights, and all entries that are not listed as unused."""
    model = checkpoint.get("model")
    weights = cast(Mapping[str, Tensor], model if isinstance(model, Mapping) else checkpoint)
    return {name: weight for name, weight in weights.items() if name not in unused}
