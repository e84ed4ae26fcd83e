"""Initialisation of an untrained SelfMask of any size.

The paper (Shin et al. 2022, section 3.3) starts from DINO's encoder and from torch's own initial
weights elsewhere. A small network has no such encoder: all of it is drawn at random here, the
encoder as timm draws a vision transformer's weights.
"""

from __future__ import annotations

import torch

from zutis_model.layers.precision import Precision
from zutis_model.saliency.selfmask import SelfMask
from zutis_model.saliency.selfmask_sizes import SelfMaskSizes


def initialise_selfmask(
    sizes: SelfMaskSizes, *, seed: int = 0, precision: Precision = "float32"
) -> SelfMask:
    """A network to be trained, on the CPU, in training mode, all weights trainable.

    Equal arguments give equal weights; torch's own random state is neither read nor moved.

    Args:
        sizes: of the network.
        seed: of all weights; at least 0.
        precision: see `SelfMask`.

    Raises:
        ValueError: the seed is below 0, or the precision unknown.
    """
    if seed < 0:
        raise ValueError(f"seed must be at least 0, got {seed}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SelfMask(sizes, precision)
        network.encoder.init_weights()
    _soften_masks(network)
    return network.train().requires_grad_(True)


@torch.no_grad()
def _soften_masks(network: SelfMask) -> None:
    """Make the first masks' logits about 1 in size.

    Queries and tokens come out of layer norms, each with d channels of about 1, so that their
    products are about the root of d: of random weights, masks of zeros and ones, which hardly any
    gradient passes. The reference starts so, but with the tokens of a trained encoder.
    """
    gain = float(network.sizes.width) ** -0.25
    for name in ("encoder.norm.weight", "decoder.norm.weight"):
        network.get_parameter(name).fill_(gain)
