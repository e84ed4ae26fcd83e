"""SelfMask computed as the ZUTIS reference computes it: the baseline of `selfmask_forward`.

The same weights and the same result as `zutis_model.saliency.selfmask`, by the operations of the
reference (`networks/selfmask`): attention matrices of all tokens by all tokens, held until their
layer is done; every layer's tokens normalised and kept, though only the last are read; tokens
upsampled before they are multiplied; every query's mask brought to the image's resolution, though
one is kept.

Dimensions: as in `zutis_model.saliency.selfmask`, and n tokens, 1 + r·c; k heads.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from timm.layers import Attention
from timm.models.vision_transformer import Block
from torch import Tensor

from zutis_model.layers.transformer_decoder import TransformerDecoderLayer
from zutis_model.saliency.selfmask import PATCH_SIZE, SelfMask


class ReferenceSelfMask:
    """Uses the parameters of `network`, not its way of computing."""

    def __init__(self, network: SelfMask) -> None:
        self._network = network

    @torch.no_grad()
    def predict(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """All queries' masks at the image's resolution.

        Args:
            images: float32 [b, 3, h, w], normalised with the ImageNet statistics.

        Returns:
            soft masks: float32 [b, q, h, w] in 0..1.
            objectness logits: float32 [b, q].
        """
        height, width = images.shape[-2:]
        tokens_bdrc = self._encode(images)
        queries_bqd = self._decode(tokens_bdrc.flatten(2).transpose(1, 2))
        pixels_bdrc = F.interpolate(tokens_bdrc, scale_factor=2, mode="bilinear")
        masks = torch.sigmoid(torch.einsum("bqd,bdrc->bqrc", queries_bqd, pixels_bdrc))
        objectness_logits = self._network.ffn(queries_bqd).squeeze(-1)
        masks = F.interpolate(masks, scale_factor=PATCH_SIZE // 2, mode="bilinear")
        return masks[..., :height, :width], objectness_logits

    def _encode(self, images: Tensor) -> Tensor:
        """[b, 3, h, w] to the last layer's normalised patch tokens, [b, d, r, c]."""
        encoder = self._network.encoder
        height, width = images.shape[-2:]
        padded = F.pad(images, (0, -width % PATCH_SIZE, 0, -height % PATCH_SIZE))
        patches = encoder.patch_embed.proj(padded)
        grid = patches.shape[-2:]
        tokens = patches.flatten(2).transpose(1, 2)
        tokens = torch.cat([encoder.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
        tokens = tokens + _resized_position(encoder.pos_embed, *grid)

        normalised = []
        for block in encoder.blocks:
            tokens = _encoder_layer(block, tokens)
            normalised.append(encoder.norm(tokens))
        of_all_layers = torch.stack([layer[:, 1:] for layer in normalised])
        return of_all_layers[-1].transpose(1, 2).unflatten(2, grid)

    def _decode(self, memory_bnd: Tensor) -> Tensor:
        """[b, r·c, d] to the queries of the last layer, [b, q, d]."""
        query_embed = self._network.query_embed.repeat(len(memory_bnd), 1, 1)
        target = torch.zeros_like(query_embed)
        for layer in self._network.decoder.layers:
            target = _decoder_layer(layer, target, memory_bnd, query_embed)
        return self._network.decoder.norm(target)


def _resized_position(position: Tensor, rows: int, columns: int) -> Tensor:
    class_token, patches = position[:, :1], position[:, 1:]
    if patches.shape[1] == rows * columns:
        return position
    side = math.isqrt(patches.shape[1])
    patches = patches.transpose(1, 2).unflatten(2, (side, side))
    patches = F.interpolate(patches, size=(rows, columns), mode="bicubic")
    return torch.cat([class_token, patches.flatten(2).transpose(1, 2)], dim=1)


def _encoder_layer(block: Block, tokens_bnd: Tensor) -> Tensor:
    # The reference hands the weights out, which keeps them alive beside the perceptron.
    attended, _weights = _attend(block.attn, block.norm1(tokens_bnd))
    tokens_bnd = tokens_bnd + attended
    hidden = F.gelu(block.mlp.fc1(block.norm2(tokens_bnd)))
    return tokens_bnd + block.mlp.fc2(hidden)


def _attend(attention: Attention, tokens_bnd: Tensor) -> tuple[Tensor, Tensor]:
    """Attended tokens [b, n, d], and the whole attention matrix [b, k, n, n]."""
    projected = attention.qkv(tokens_bnd).unflatten(-1, (3, attention.num_heads, -1))
    queries, keys, values = projected.permute(2, 0, 3, 1, 4)
    weights = (queries @ keys.transpose(-2, -1)) * attention.scale
    weights = weights.softmax(dim=-1)
    attended = (weights @ values).transpose(1, 2).flatten(2)
    return attention.proj(attended), weights


def _decoder_layer(
    layer: TransformerDecoderLayer, target: Tensor, memory: Tensor, query_embed: Tensor
) -> Tensor:
    # Weights are returned by default, so the attention isn't fused here either.
    positioned = target + query_embed
    target = layer.norm1(target + layer.self_attn(positioned, positioned, target)[0])
    positioned = target + query_embed
    target = layer.norm2(target + layer.multihead_attn(positioned, memory, memory)[0])
    return layer.norm3(target + layer.linear2(F.relu(layer.linear1(target))))
