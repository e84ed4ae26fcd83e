"""Initialisation of ZUTIS for training: CLIP's image tower, random weights elsewhere.

Shin et al. 2023, section 3; as the reference starts (`networks/zutis.py`,
`networks/transformer.py`). Perceptrons and decoder have torch's own initial weights (attention:
Xavier; linear maps: Kaiming), the queries are drawn from a standard normal distribution.

Dimensions:
    q  queries
    l  decoder layers
"""

from __future__ import annotations

import torch
from open_clip.transformer import QuickGELU

from zutis_model.clip.towers import Clip
from zutis_model.layers.precision import Precision
from zutis_model.layers.weight_loading import load_strictly
from zutis_model.zutis.network import Zutis

_QUICKGELU = "-quickgelu"


def initialise_zutis(
    clip: Clip,
    architecture: str,
    *,
    num_queries: int = 100,
    num_decoder_layers: int = 6,
    num_heads: int = 8,
    stop_gradient: bool = True,
    seed: int = 0,
    precision: Precision = "float32",
) -> Zutis:
    """A network to be trained, on the CPU, in training mode, all weights trainable.

    Equal arguments give equal weights; torch's own random state is neither read nor moved.

    Args:
        clip: whose image tower is copied; not changed, and sharing no memory with the network.
        architecture: open_clip's name that `clip` was loaded by. Where its weights brought
            QuickGELU along, the network gets the variant of the architecture that has it.
        num_queries: q, at least 1.
        num_decoder_layers: l, at least 1.
        num_heads: attention heads of the decoder; divides the tower's width.
        stop_gradient: see `Zutis`.
        seed: of perceptrons, decoder and queries; at least 0.
        precision: see `Zutis`.

    Returns:
        The network; its `architecture` is the name to load its state dict with.

    Raises:
        ValueError: a number is out of range, the image tower has no patch tokens, or `clip` is of
            another architecture.
    """
    for name, value, least in (
        ("num_queries", num_queries, 1),
        ("num_decoder_layers", num_decoder_layers, 1),
        ("num_heads", num_heads, 1),
        ("seed", seed, 0),
    ):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _network(
            _with_activation_of(clip, architecture),
            num_queries=num_queries,
            num_decoder_layers=num_decoder_layers,
            num_heads=num_heads,
            stop_gradient=stop_gradient,
            precision=precision,
        )
    load_strictly(
        network.encoder, clip.model.visual.state_dict(), f"the image tower of {architecture}"
    )
    _make_layers_equal(network)
    return network.train().requires_grad_(True)


def _network(
    architecture: str,
    *,
    num_queries: int,
    num_decoder_layers: int,
    num_heads: int,
    stop_gradient: bool,
    precision: Precision,
) -> Zutis:
    try:
        return Zutis(
            architecture,
            num_queries=num_queries,
            num_decoder_layers=num_decoder_layers,
            num_heads=num_heads,
            stop_gradient=stop_gradient,
            precision=precision,
        )
    except AssertionError as error:  # torch's, of attention heads that don't divide the width
        raise ValueError(f"num_heads is {num_heads}: {error}") from error


def _with_activation_of(clip: Clip, architecture: str) -> str:
    """The architecture's name with the activation that `clip` really has."""
    has_quickgelu = any(isinstance(module, QuickGELU) for module in clip.model.visual.modules())
    if has_quickgelu and not architecture.endswith(_QUICKGELU):
        return architecture + _QUICKGELU
    return architecture


@torch.no_grad()
def _make_layers_equal(network: Zutis) -> None:
    """Give all decoder layers the weights of the first.

    The reference builds one layer and copies it, so that its layers start equal. That is hardly
    intended; but the published weights were trained so.
    """
    first, *others = network.decoder.layers
    for layer in others:
        layer.load_state_dict(first.state_dict())
