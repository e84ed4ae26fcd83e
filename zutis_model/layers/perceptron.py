"""The multi-layer perceptron of SelfMask and ZUTIS for queries and tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Perceptron(nn.Module):
    """Three linear maps with ReLU between them, as DETR's heads have it.

    Parameter names (`layers.0.weight`, ...) are those of the published checkpoints.

    Args:
        width: channels of the input.
        hidden_width: channels in between.
        output_width: channels of the output.
    """

    def __init__(self, width: int, hidden_width: int, output_width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                nn.Linear(width, hidden_width),
                nn.Linear(hidden_width, hidden_width),
                nn.Linear(hidden_width, output_width),
            ]
        )

    def forward(self, values: Tensor) -> Tensor:
        """Float [..., width] to [..., output_width]."""
        *hidden_layers, last = self.layers
        for layer in hidden_layers:
            values = torch.relu(layer(values))
        output: Tensor = last(values)
        return output
