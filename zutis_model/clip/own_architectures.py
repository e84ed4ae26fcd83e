"""CLIP architectures that open_clip doesn't have, and the tokenizer of each architecture.

Importing this module registers the JSON files in `model_configs/` with open_clip; their format is
open_clip's own. `zutis_model` opens no other file: weights are handed in. One property is not in
the format: our ViTs embed patches by convolutions (`convolutional_stem`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import open_clip
from torch import Tensor

from zutis_model.clip.reduced_tokenizer import ReducedTokenizer
from zutis_model.layers.convolutional_stem import ConvolutionalStem

Tokenizer = Callable[[Sequence[str]], Tensor]

_FOLDER = Path(__file__).with_name("model_configs")
_OURS = frozenset(path.stem for path in _FOLDER.glob("*.json"))

open_clip.add_model_config(_FOLDER)


def known_architectures() -> list[str]:
    """The names of open_clip's architectures and ours."""
    names: list[str] = open_clip.list_models()
    return names


def make_model(architecture: str, **options: Any) -> open_clip.CLIP | open_clip.CustomTextCLIP:
    """Both towers with random weights, of torch's own random state.

    Args:
        architecture: one of `known_architectures()`.
        options: of `open_clip.create_model`.
    """
    model: open_clip.CLIP | open_clip.CustomTextCLIP = open_clip.create_model(
        architecture, pretrained=None, pretrained_text=False, **options
    )
    if architecture in _OURS:
        model.visual.conv1 = ConvolutionalStem(model.visual.class_embedding.shape[0])
    return model


def make_tokenizer(architecture: str) -> Tokenizer:
    """The tokenizer of an architecture's text tower: open_clip's choice, or ours with few ids.

    Args:
        architecture: one of `known_architectures()`.
    """
    if architecture in _OURS:
        text = open_clip.get_model_config(architecture)["text_cfg"]
        return ReducedTokenizer(text["vocab_size"], text["context_length"])
    tokenizer: Tokenizer = open_clip.get_tokenizer(architecture)
    return tokenizer
