"""A tiny SigLIP in open_clip's folder format, with random weights and its own tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 64,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 160,
            "timm_model_name": "test_vit",
            "timm_model_pretrained": False,
            "timm_pool": "map",
            "timm_proj": "none",
        },
        "text_cfg": {
            "context_length": 16,
            "vocab_size": 400,
            "hf_tokenizer_name": "nobody/tiny-siglip",
            "tokenizer_kwargs": {"clean": "canonicalize"},
            "width": 64,
            "heads": 2,
            "layers": 2,
            "no_causal_mask": True,
            "proj_bias": True,
            "pool_type": "last",
            "norm_kwargs": {"eps": 1e-6},
            "act_kwargs": {"approximate": "tanh"},
        },
    },
    "preprocess_cfg": {
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bicubic",
        "resize_mode": "squash",
    },
}

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")

_TEXTS = ["a photo of the red green blue yellow bird", "a drawing of many things in the rain"]


def siglip_config(change: Callable[[dict[str, Any]], object] = lambda _: None) -> dict[str, Any]:
    """The content of `open_clip_config.json`, changed in place by `change`."""
    config: dict[str, Any] = json.loads(json.dumps(CONFIG))
    change(config)
    return config


def write_siglip(folder: Path, config: dict[str, Any] | None = None, seed: int = 5) -> Path:
    """Write the model for open_clip's `local-dir:`; returns the folder.

    With the default seed, coloured images have cosines above 0 with some words.
    """
    import open_clip
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps(config or CONFIG))
    write_tokenizer(folder)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
        with torch.no_grad():  # of one image and one text, about -3 to 3
            model.logit_scale.fill_(2.0)
            model.logit_bias.fill_(-1.0)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


def write_tokenizer(folder: Path) -> None:
    """Byte pairs with an end mark, trained on two sentences."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.train_from_iterator(
        _TEXTS,
        trainers.BpeTrainer(
            vocab_size=CONFIG["model_cfg"]["text_cfg"]["vocab_size"],
            special_tokens=["<pad>", "<eos>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", tokenizer.token_to_id("<eos>"))]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", padding_side="right"
    ).save_pretrained(folder)
