"""The decoder that turns learned queries into object queries, as in DETR.

SelfMask (Shin et al. 2022) and ZUTIS (Shin et al. 2023) share it; it is the post-norm decoder of
DETR (Carion et al. 2020) without dropout. Parameter names are those of the published checkpoints.

Dimensions:
    b  images in the batch
    q  queries
    t  memory tokens
    d  width
    l  decoder layers
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TransformerDecoderLayer(nn.Module):
    """Self-attention among the queries, cross-attention to the memory, perceptron; post-norm."""

    def __init__(self, width: int, num_heads: int, feedforward_width: int) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, num_heads, batch_first=True)
        self.multihead_attn = nn.MultiheadAttention(width, num_heads, batch_first=True)
        self.linear1 = nn.Linear(width, feedforward_width)
        self.linear2 = nn.Linear(feedforward_width, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)

    def forward(
        self, target_bqd: Tensor, memory_btd: Tensor, keys_btd: Tensor, query_embed_bqd: Tensor
    ) -> Tensor:
        """One layer.

        Args:
            target_bqd: float [b, q, d], the queries' content so far.
            memory_btd: float [b, t, d], the values of the cross-attention.
            keys_btd: float [b, t, d], its keys: the memory, with its position where it has one.
            query_embed_bqd: float [b, q, d], added to queries and keys, never to values.

        Returns:
            float [b, q, d].
        """
        # Without weights asked for, `MultiheadAttention` uses the fused kernel, which never
        # holds the q x t attention matrix.
        positioned = target_bqd + query_embed_bqd
        attended, _ = self.self_attn(positioned, positioned, target_bqd, need_weights=False)
        target_bqd = self.norm1(target_bqd + attended)

        positioned = target_bqd + query_embed_bqd
        attended, _ = self.multihead_attn(positioned, keys_btd, memory_btd, need_weights=False)
        target_bqd = self.norm2(target_bqd + attended)

        hidden = self.linear2(torch.relu(self.linear1(target_bqd)))
        output: Tensor = self.norm3(target_bqd + hidden)
        return output


class TransformerDecoder(nn.Module):
    """A stack of layers and one norm that is shared by their outputs.

    Args:
        width: d.
        num_layers: l, at least 1.
        num_heads: attention heads; divides `width`.
        feedforward_width: hidden width of each layer's perceptron.
    """

    def __init__(self, width: int, num_layers: int, num_heads: int, feedforward_width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TransformerDecoderLayer(width, num_heads, feedforward_width) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(
        self,
        query_embed: Tensor,
        memory: Tensor,
        memory_position: Tensor | None = None,
        *,
        all_layers: bool = False,
    ) -> Tensor:
        """Decode.

        Args:
            query_embed: float [q, d], the learned queries. They act as positions: the content
                that they are added to starts at zero.
            memory: float [b, t, d], the encoder's tokens.
            memory_position: float, broadcasts to [b, t, d]; added to the keys only.
            all_layers: return every layer's output (training), not only the last.

        Returns:
            float [l, b, q, d] with `all_layers`, else [1, b, q, d], after the shared norm.
        """
        query_embed_bqd = query_embed.expand(memory.shape[0], -1, -1)
        keys = memory if memory_position is None else memory + memory_position

        target = torch.zeros_like(query_embed_bqd)
        outputs = []
        for layer in self.layers:
            target = layer(target, memory, keys, query_embed_bqd)
            outputs.append(target)
        # The norm isn't fed back into the next layer: it only normalises the layers' outputs.
        return torch.stack([self.norm(x) for x in (outputs if all_layers else outputs[-1:])])
