"""Loading of CLIP and SigLIP models from folders in open_clip's format.

A folder holds `open_clip_config.json` (the towers and how images are prepared), weights, and the
files of a tokenizer where the text tower has one of Hugging Face's. open_clip builds the model and
reads the tokenizer, from the folder alone; the weights are handed in, as everywhere here.

SigLIP (Zhai et al. 2023; SigLIP 2: Tschannen et al. 2025) is such a model: its image tower is
timm's, its tokenizer sentencepiece's, and each of its scores is an independent probability.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor

from zutis_model.clip.own_architectures import Tokenizer
from zutis_model.clip.towers import Clip, fit_to_model, without_root_logging
from zutis_model.layers.precision import Precision, check_precision
from zutis_model.layers.weight_loading import WithoutRandomInitialisation, load_strictly


def load_clip_folder(
    folder: Path,
    state_dict: Mapping[str, Tensor],
    *,
    device: torch.device | str = "cpu",
    precision: Precision = "float32",
) -> Clip:
    """A folder's model, ready for inference.

    Args:
        folder: with `open_clip_config.json` and, where that names one, a tokenizer's files. Code
            beside them is never run.
        state_dict: the folder's weights, open_clip's or OpenAI's, of any floating-point type.
        device: where the model lives.
        precision: `float32`, or `bfloat16` (autocast).

    Raises:
        ValueError: open_clip can't build the model, the tokenizer can't be read, or the weights
            are of another model; the message has one line.
    """
    check_precision(precision)
    source = f"local-dir:{folder}"
    try:
        with without_root_logging(), WithoutRandomInitialisation():
            config = open_clip.get_model_config(source)
            model = open_clip.create_model(source, load_weights=False, pretrained_text=False)
    except Exception as error:  # towers with bad configurations raise any type
        raise ValueError(f"open_clip can't build {folder}: {_first_line(error)}") from error
    tokenizer = _tokenizer(source, config)
    load_strictly(model, fit_to_model(model, state_dict), f"the configuration in {folder}")
    device = torch.device(device)
    return Clip(
        model.to(device).eval().requires_grad_(False),
        tokenizer,
        embedding_dim=config["embed_dim"],
        device=device,
        precision=precision,
    )


def _tokenizer(source: str, config: Mapping[str, Any]) -> Tokenizer:
    # A folder's configuration may ask to run its own code, which is refused.
    options = {"trust_remote_code": False} if config["text_cfg"].get("hf_tokenizer_name") else {}
    try:
        with without_root_logging():
            tokenizer: Tokenizer = open_clip.get_tokenizer(source, **options)
    except Exception as error:  # transformers raises many kinds
        raise ValueError(f"its tokenizer can't be read: {_first_line(error)}") from error
    return tokenizer


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(" .:") if lines else type(error).__name__
