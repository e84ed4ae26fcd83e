"""Identification of a state dict's CLIP architecture, from parameter names and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import open_clip
from torch import Tensor

from zutis_model.clip.own_architectures import known_architectures

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
    names = [name for name in known_architectures() if _fits(shape, _configured_shape(name))]
    return sorted(names, key=lambda name: (len(name), name))


def architectures_of_clip(weights: Mapping[str, Tensor]) -> list[str]:
    """The architectures whose two towers have these weights' shapes.

    Args:
        weights: the whole model's, named as OpenAI does (`visual.*`, `transformer.*`, ...), or with
            the text tower below `text.` as open_clip has it for some models.

    Returns:
        As `architectures_of_image_tower`.
    """
    image_tower = {
        name.removeprefix("visual."): tensor
        for name, tensor in weights.items()
        if name.startswith("visual.")
    }
    text = _text_shape({k.removeprefix("text."): tensor for k, tensor in weights.items()})
    return [
        name
        for name in architectures_of_image_tower(image_tower)
        if _fits(text, _configured_text_shape(name))
    ]


def embedding_dim(architecture: str) -> int | None:
    """d of the embeddings of an architecture; None if it is known by no such name."""
    config = open_clip.get_model_config(architecture)
    return None if config is None else int(config["embed_dim"])


def quickgelu(architectures: list[str]) -> str | None:
    """The first of them that OpenAI's weights fit: all of these were trained with QuickGELU.

    None if there is none.
    """
    return next((name for name in architectures if name.endswith(_QUICKGELU)), None)


def likely_architecture(architectures: list[str]) -> str | None:
    """The most likely of the architectures that fit; None if none fits.

    Published networks come from OpenAI's CLIPs. Where none of those fits, there is one name as a
    rule, such as ours.
    """
    return quickgelu(architectures) or next(iter(architectures), None)


# Layers, widths and so on, as read from weights: None where a key is missing, so that a damaged
# checkpoint is still identified and its loading can name the key.
_Shape = tuple[Any, ...]


def _fits(found: _Shape, configured: _Shape | None) -> bool:
    return configured is not None and all(
        one is None or one == other for one, other in zip(found, configured, strict=True)
    )


def _tower_shape(weights: Mapping[str, Tensor]) -> _Shape | None:
    """(layers, width, patch size, patches, joint width), or None for another kind of tower."""
    if layers := _count(weights, "transformer.resblocks."):
        width = _size(weights, "class_embedding", 0)
        patch = _size(weights, "conv1.weight", 2)
        positions = _size(weights, "positional_embedding", 0)
        return layers, width, patch, positions, _size(weights, "proj", 1)
    stages = tuple(_count(weights, f"layer{stage}.") for stage in range(1, 5))
    if any(stages):
        width = _size(weights, "bn3.weight", 0)
        positions = _size(weights, "attnpool.positional_embedding", 0)
        joint_width = _size(weights, "attnpool.c_proj.weight", 0)
        return stages, width, _RESNET_STRIDE, positions, joint_width
    return None


def _size(weights: Mapping[str, Tensor], name: str, dimension: int) -> int | None:
    tensor = weights.get(name)
    return None if tensor is None or tensor.ndim <= dimension else tensor.shape[dimension]


def _configured_shape(name: str) -> _Shape | None:
    """The result of `_tower_shape` for the architecture's weights."""
    config = open_clip.get_model_config(name)
    vision = config["vision_cfg"]
    if vision.get("timm_model_name") or vision.get("attentional_pool"):
        return None
    layers = vision.get("layers", 12)
    is_resnet = isinstance(layers, (list, tuple))
    patch = _RESNET_STRIDE if is_resnet else vision.get("patch_size", 16)
    side = vision.get("image_size", 224) // patch
    layers = tuple(layers) if is_resnet else layers
    positions = side * side + 1
    return layers, vision.get("width", 768), patch, positions, config["embed_dim"]


def _text_shape(weights: Mapping[str, Tensor]) -> _Shape:
    """(layers, width, context length, size of the vocabulary)."""
    return (
        _count(weights, "transformer.resblocks.") or None,
        _size(weights, "ln_final.weight", 0),
        _size(weights, "positional_embedding", 0),
        _size(weights, "token_embedding.weight", 0),
    )


def _configured_text_shape(name: str) -> _Shape | None:
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
    """Number of different numbers after the prefix."""
    found = (name.removeprefix(prefix) for name in weights if name.startswith(prefix))
    return len({rest.partition(".")[0] for rest in found})
