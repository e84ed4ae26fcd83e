"""ZUTIS: semantic and instance segmentation in CLIP's embedding space (Shin et al. 2023).

CLIP's image tower gives patch tokens. Projected to the joint embedding, they are compared with
texts: that is the semantic branch. A perceptron turns the same tokens into pixel features, and a
transformer decoder with learned queries into mask proposals: that is the instance branch, which
by default sends no gradient back into the tower. The architecture is that of the reference
(`networks/zutis.py`), and so are the names in the state dict.

Dimensions:
    b     images in the batch
    h, w  image rows, columns
    r, c  patch rows, columns: h // p and w // p for patches of p pixels
    q     queries
    l     decoder layers
    e     width of the image tower
    d     width of the joint embedding
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from zutis_model.clip.architectures import architectures_of_image_tower, likely_architecture
from zutis_model.clip.dense import check_is_dense, patch_tokens, project, token_width
from zutis_model.clip.towers import image_tower
from zutis_model.layers.input_checks import check_images
from zutis_model.layers.perceptron import Perceptron
from zutis_model.layers.precision import Precision, autocast, check_precision
from zutis_model.layers.sine_position import sine_position
from zutis_model.layers.synthetic_weights import fill_with_synthetic_weights
from zutis_model.layers.transformer_decoder import TransformerDecoder
from zutis_model.layers.weight_loading import WithoutRandomInitialisation, load_strictly

TOKENS_PER_PATCH = 2
"""Tokens, and mask pixels, along a patch's side."""

_PERCEPTRON_WIDTH = 256
_FEEDFORWARD_WIDTH = 2048
_UNIT_NORM_EPSILON = 1e-7
_ENCODER = "encoder."


@dataclass(frozen=True)
class ZutisOutput:
    """The network's output for a batch.

    Attributes:
        mask_logits: float32 [b, l, q, 2r, 2c]; one layer only unless all were asked for.
        patch_tokens: float32 [b, 2r, 2c, d], unit norm: cosines with texts are semantic logits.
    """

    mask_logits: Tensor
    patch_tokens: Tensor

    @property
    def mask_proposals(self) -> Tensor:
        """Soft masks, float32 [b, l, q, 2r, 2c] in 0..1."""
        return self.mask_logits.sigmoid()


class Zutis(nn.Module):
    """The network. Use `load_zutis` to get one with weights.

    It knows no categories: their text embeddings enter where predictions are made of its output
    (`semantic_prediction`, `instance_prediction`), and can be any.

    Args:
        architecture: open_clip's name of the CLIP whose image tower encodes.
        num_queries: q.
        num_decoder_layers: l.
        num_heads: attention heads of the decoder; divides e.
        stop_gradient: the instance branch leaves the tower's gradient alone (ZUTIS, section 3.3).
        frozen_batch_norm: ResNet towers keep their running statistics, in training too.
        precision: arithmetic of the networks; outputs are float32 either way.

    Raises:
        ValueError: unknown precision, or a CLIP whose image tower has no patch tokens.
    """

    def __init__(
        self,
        architecture: str = "ViT-B-16-quickgelu",
        *,
        num_queries: int = 100,
        num_decoder_layers: int = 6,
        num_heads: int = 8,
        stop_gradient: bool = True,
        frozen_batch_norm: bool = True,
        precision: Precision = "float32",
    ) -> None:
        super().__init__()
        check_precision(precision)
        self.architecture = architecture
        self.stop_gradient = stop_gradient
        self.frozen_batch_norm = frozen_batch_norm
        self.precision: Precision = precision
        self.encoder = check_is_dense(image_tower(architecture))
        width = token_width(self.encoder)
        self.ffn1 = Perceptron(width, _PERCEPTRON_WIDTH, width)
        self.ffn2 = Perceptron(width, _PERCEPTRON_WIDTH, width)
        self.decoder = TransformerDecoder(width, num_decoder_layers, num_heads, _FEEDFORWARD_WIDTH)
        self.query_embed = nn.Parameter(torch.randn(num_queries, width))

    @property
    def device(self) -> torch.device:
        return self.query_embed.device

    def train(self, mode: bool = True) -> Zutis:
        """Training or evaluation mode, batch norms frozen where that is asked for."""
        super().train(mode)
        if self.frozen_batch_norm:
            for module in self.encoder.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval().requires_grad_(False)
        return self

    def forward(self, images: Tensor, *, all_layers: bool = False) -> ZutisOutput:
        """Mask proposals and patch tokens.

        Args:
            images: float32 [b, 3, h, w], normalised with the ImageNet statistics (not CLIP's: the
                published weights were trained so); any size from one patch. Pixels beyond the last
                whole patch are not seen; predictions are stretched over the full size, as in
                the reference.
            all_layers: proposals of every decoder layer (the losses want them), not only the last.

        Returns:
            See `ZutisOutput`; r and c are rounded down.

        Raises:
            ValueError: images of another shape or type, smaller than a patch, or, outside of
                training, with NaN.
        """
        check_images(images, training=self.training)
        with autocast(self.device, self.precision):
            tokens = _upsample(patch_tokens(self.encoder, images))
            pixel_features = self.ffn1(tokens.detach() if self.stop_gradient else tokens)
            queries = self._queries(pixel_features, all_layers)
            # The pixel features are not normalised: their norm decides a mask's confidence.
            mask_logits = torch.einsum("lbqe,brce->blqrc", queries, pixel_features)
            projected = project(self.encoder, tokens)
        return ZutisOutput(
            mask_logits=mask_logits.float(), patch_tokens=_normalised_jointly(projected.float())
        )

    def _queries(self, pixel_features: Tensor, all_layers: bool) -> Tensor:
        """Object queries of unit norm, float [l, b, q, e], for features [b, 2r, 2c, e]."""
        _, rows, columns, width = pixel_features.shape
        position = sine_position(rows, columns, width, pixel_features.device)
        memory = pixel_features.flatten(1, 2)
        queries = self.ffn2(self.decoder(self.query_embed, memory, position, all_layers=all_layers))
        unit_queries: Tensor = queries / queries.norm(dim=-1, keepdim=True)
        return unit_queries


def load_zutis(
    state_dict: Mapping[str, Tensor] | None = None,
    *,
    architecture: str | None = None,
    num_queries: int = 100,
    num_decoder_layers: int = 6,
    num_heads: int = 8,
    seed: int = 0,
    device: torch.device | str = "cpu",
    precision: Precision = "float32",
) -> Zutis:
    """ZUTIS with weights, in eval mode.

    Args:
        state_dict: a published checkpoint's, or one of ours; the CLIP architecture (with
            QuickGELU, as published), the queries and the decoder layers are read from it. None:
            the synthetic weights of `seed`.
        architecture: open_clip's name. None: the one of the state dict, else ViT-B/16.
        num_queries, num_decoder_layers: of a network with synthetic weights.
        num_heads: attention heads of the decoder, which checkpoints don't record; published: 8.
        seed: see `synthetic_weights.synthetic_weight`.
        device: where the network lives; move the images there.
        precision: `float32`, or `bfloat16` (autocast) for speed where results may differ a little.

    Raises:
        ValueError: the state dict is of another model (the message names keys), or the
            architecture, the precision or the seed is not a valid one.
    """
    if state_dict is not None:
        architecture = architecture or _architecture_of(state_dict)
        num_queries = len(state_dict.get("query_embed", range(num_queries)))
        num_decoder_layers = _num_decoder_layers(state_dict) or num_decoder_layers
    architecture = architecture or "ViT-B-16-quickgelu"
    with WithoutRandomInitialisation():
        network = Zutis(
            architecture,
            num_queries=num_queries,
            num_decoder_layers=num_decoder_layers,
            num_heads=num_heads,
            precision=precision,
        )
    if state_dict is None:
        fill_with_synthetic_weights(network, seed)
    else:
        load_strictly(network, state_dict, f"ZUTIS ({architecture})")
    return network.to(device).eval().requires_grad_(False)


def _architecture_of(state_dict: Mapping[str, Tensor]) -> str | None:
    encoder = {
        name.removeprefix(_ENCODER): tensor
        for name, tensor in state_dict.items()
        if name.startswith(_ENCODER)
    }
    return likely_architecture(architectures_of_image_tower(encoder))


def _num_decoder_layers(state_dict: Mapping[str, Tensor]) -> int:
    prefix = "decoder.layers."
    return len({name.split(".")[2] for name in state_dict if name.startswith(prefix)})


def _upsample(tokens: Tensor) -> Tensor:
    """Float [b, r, c, e] to [b, 2r, 2c, e], bilinear."""
    channels_first = tokens.permute(0, 3, 1, 2)
    upsampled = F.interpolate(channels_first, scale_factor=TOKENS_PER_PATCH, mode="bilinear")
    return upsampled.permute(0, 2, 3, 1)


def _normalised_jointly(tokens: Tensor) -> Tensor:
    """Layer norm over each image as a whole, then unit norm at each place: float [b, r, c, d]."""
    # One mean and one variance for all rows, columns and channels of an image together, without
    # parameters. It looks like a slip for a norm over channels, but the published weights were
    # trained with it, and a norm over channels changes the tokens.
    tokens = F.layer_norm(tokens, list(tokens.shape[1:]))
    unit_tokens: Tensor = tokens / (tokens.norm(dim=-1, keepdim=True) + _UNIT_NORM_EPSILON)
    return unit_tokens
