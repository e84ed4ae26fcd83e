"""Which of open_clip's architectures a state dict belongs to, read from names and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import open_clip
from torch import Tensor

_QUICKGELU = "-quickgelu"
_RESNET_STRIDE = 32


def architectures_of_image_tower(weights: Mapping[str, Tensor]) -> list[str]:
    """The architectures whose image tower has these weights' shapes.

    The activation leaves no trace in the weights, so an architecture and its `-quickgelu` variant
    always come together.

    Args:
        weights: the image tower's, without the prefix `visual.`.

    Returns:
        Names as open_clip has them, shortest first; empty where none fits, or where the tower is
        neither CLIP's ViT nor its ResNet.
    """
    shape = _tower_shape(weights)
    if shape is None:
        return []
    names = [name for name in open_clip.list_models() if _configured_shape(name) == shape]
    return sorted(names, key=lambda name: (len(name), name))


def architectures_of_clip(weights: Mapping[str, Tensor]) -> list[str]:
    """The architectures whose two towers have these weights' shapes.

    Args:
        weights: the whole model's, named as OpenAI does (`visual.*`, `transformer.*`, ...).

    Returns:
        As `architectures_of_image_tower`.
    """
    image_tower = {
        name.removeprefix("visual."): tensor
        for name, tensor in weights.items()
        if name.startswith("visual.")
    }
    text = _text_shape(weights)
    return [
        name
        for name in architectures_of_image_tower(image_tower)
        if _configured_text_shape(name) == text
    ]


def quickgelu(architectures: list[str]) -> str | None:
    """The first of them that OpenAI's weights belong to: all of those were trained with QuickGELU.

    None if there is none.
    """
    return next((name for name in architectures if name.endswith(_QUICKGELU)), None)


def _tower_shape(weights: Mapping[str, Tensor]) -> tuple[Any, ...] | None:
    """(layers, width, patch size, patches, joint width), comparable with `_configured_shape`."""
    if {"conv1.weight", "positional_embedding", "proj"} <= weights.keys():
        width, _, patch, _ = weights["conv1.weight"].shape
        patches = weights["positional_embedding"].shape[0] - 1
        layers = _count(weights, "transformer.resblocks.")
        return layers, width, patch, patches, weights["proj"].shape[1]
    if {"attnpool.positional_embedding", "attnpool.c_proj.weight"} <= weights.keys():
        stages = tuple(_count(weights, f"layer{stage}.") for stage in range(1, 5))
        patches = weights["attnpool.positional_embedding"].shape[0] - 1
        width = weights["layer1.0.conv1.weight"].shape[0]
        return stages, width, _RESNET_STRIDE, patches, weights["attnpool.c_proj.weight"].shape[0]
    return None


def _configured_shape(name: str) -> tuple[Any, ...] | None:
    config = open_clip.get_model_config(name)
    vision = config["vision_cfg"]
    if vision.get("timm_model_name") or vision.get("attentional_pool"):
        return None
    layers = vision.get("layers", 12)
    is_resnet = isinstance(layers, (list, tuple))
    patch = _RESNET_STRIDE if is_resnet else vision.get("patch_size", 16)
    side = vision.get("image_size", 224) // patch
    layers = tuple(layers) if is_resnet else layers
    return layers, vision.get("width", 768), patch, side * side, config["embed_dim"]


def _text_shape(weights: Mapping[str, Tensor]) -> tuple[Any, ...] | None:
    if not {"positional_embedding", "token_embedding.weight"} <= weights.keys():
        return None
    context, width = weights["positional_embedding"].shape
    vocabulary = weights["token_embedding.weight"].shape[0]
    return _count(weights, "transformer.resblocks."), width, context, vocabulary


def _configured_text_shape(name: str) -> tuple[Any, ...] | None:
    text = open_clip.get_model_config(name)["text_cfg"]
    if text.get("hf_model_name"):
        return None
    return (
        text.get("layers", 12),
        text.get("width", 512),
        text.get("context_length", 77),
        text.get("vocab_size", 49408),
    )


def _count(weights: Mapping[str, Tensor], prefix: str) -> int:
    """How many different numbers follow the prefix."""
    found = (name.removeprefix(prefix) for name in weights if name.startswith(prefix))
    return len({rest.partition(".")[0] for rest in found})
