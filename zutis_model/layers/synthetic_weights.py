"""Synthetic weights, a function of the parameters' names: no download, no training.

They make networks with reasonable outputs (masks that are neither all on nor all off,
queries that differ, attention that isn't saturated), so the whole pipeline can be run and
compared with other implementations before any trained weights are at hand.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

_EMBEDDINGS = (
    "cls_token",
    "pos_embed",
    "query_embed",
    "class_embedding",
    "positional_embedding",
    "token_embedding.weight",
)
# The last linear map of a residual branch: a smaller gain keeps the sum over the layers bounded.
_RESIDUAL_OUTPUTS = (
    "out_proj.weight",
    "c_proj.weight",
    "linear2.weight",
    "fc2.weight",
    "attn.proj.weight",
)


def synthetic_weight(name: str, shape: Sequence[int], seed: int = 0) -> npt.NDArray[np.float32]:
    """The synthetic weight of one parameter.

    Args:
        name: the parameter's name in the state dict, such as `decoder.norm.weight`. Prefixes
            matter: `encoder.x` and `x` get different values.
        shape: the parameter's shape, at least one dimension.
        seed: 0 gives the published recipe, which parity fixtures are made with; other
            non-negative numbers give independent weights of the same distribution.

    Returns:
        float32 array of `shape`.

    Raises:
        ValueError: `shape` has no dimension (the recipe doesn't define scalars), or `seed` is
            negative.
    """
    shape = tuple(shape)
    if not shape:
        raise ValueError(f"{name}: the synthetic recipe does not define zero-dimensional weights")
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")

    # All arithmetic is float64, rounded once at the end.
    z = _generator(name, seed).standard_normal(shape)
    if name.endswith(_EMBEDDINGS):
        weight = z * _embedding_scale(name)
    elif len(shape) == 1 and name.endswith("weight"):  # scale of a norm
        weight = (1.0 + 0.1 * z) * _norm_scale(name)
    elif len(shape) == 1:  # bias
        weight = 0.02 * z
    else:  # linear map, convolution or projection
        if len(shape) == 2 and name.endswith("weight"):
            # Rows that sum to zero don't pass on the offset common to all of their inputs.
            z -= z.mean(axis=1, keepdims=True)
        weight = z * (_gain(name) / np.sqrt(np.prod(shape[1:])))
    return weight.astype(np.float32)


@torch.no_grad()
def fill_with_synthetic_weights(module: nn.Module, seed: int = 0) -> None:
    """Give every floating-point parameter of `module` its synthetic weight, in place.

    Zero-dimensional parameters (CLIP's `logit_scale`) and buffers stay as they are.

    Args:
        module: parameters may have any floating-point type and be on any device.
        seed: see `synthetic_weight`.

    Raises:
        ValueError: `seed` is negative.
    """
    for name, parameter in module.named_parameters():
        if parameter.is_floating_point() and parameter.ndim > 0:
            parameter.copy_(torch.from_numpy(synthetic_weight(name, parameter.shape, seed)))


def _generator(name: str, seed: int) -> np.random.Generator:
    checksum = zlib.crc32(name.encode("utf-8"))
    # Seed 0 isn't `[0, checksum]`, which would be another stream: it is the published recipe.
    return np.random.default_rng(checksum if seed == 0 else [seed, checksum])


def _embedding_scale(name: str) -> float:
    # Queries far apart make masks that differ from one another.
    return 2.0 if name == "query_embed" else 0.5


def _norm_scale(name: str) -> float:
    # The decoder's output is multiplied with the pixel features: unscaled, masks would saturate.
    return 0.25 if name == "decoder.norm.weight" else 1.0


def _gain(name: str) -> float:
    if name.startswith("ffn") or name.endswith("in_proj_weight"):
        return 1.5
    return 0.5 if name.endswith(_RESIDUAL_OUTPUTS) else 1.0
