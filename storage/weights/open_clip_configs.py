"""Facts about models from open_clip's configurations, without importing open_clip.

A configuration has `vision_cfg` and `text_cfg`, one for each tower. open_clip and `zutis_model`
ship one for each architecture, `open_clip_config.json` in a folder holds one as `model_cfg`.
"""

from __future__ import annotations

import functools
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from storage.errors.exceptions import WeightsError

_PACKAGES = {"open_clip": "open-clip-torch", "zutis_model.clip": "zutis"}


@functools.cache
def clip_architectures() -> frozenset[str]:
    """The architectures that open_clip knows, and ours.

    Raises:
        WeightsError: open_clip is not installed.
    """
    return frozenset(_files())


@functools.cache
def architecture_config(architecture: str) -> Mapping[str, Any]:
    """An architecture's configuration; not to be changed.

    Args:
        architecture: one of `clip_architectures()`.
    """
    config: dict[str, Any] = json.loads(_files()[architecture].read_text(encoding="utf-8"))
    return config


def architecture_of(config: Mapping[str, Any]) -> str:
    """The name of the architecture that has this configuration; else its image tower's.

    Training builds the network by this name, and keys contain it.
    """
    for name in sorted(clip_architectures()):
        if architecture_config(name) == config:
            return name
    return str(config["vision_cfg"].get("timm_model_name") or "open_clip")


def hub_tokenizer(config: Mapping[str, Any]) -> str:
    """The hub's repository of the text tower's tokenizer; empty for CLIP's own."""
    return str(config["text_cfg"].get("hf_tokenizer_name") or "")


def hub_text_tower(config: Mapping[str, Any]) -> str:
    """The hub's repository of the text tower, where that is one of transformers'; else empty."""
    return str(config["text_cfg"].get("hf_model_name") or "")


def has_patch_tokens(config: Mapping[str, Any]) -> bool:
    """Whether the image tower can be trained into ZUTIS: CLIP's ViTs and ResNets can.

    A ViT that looks plain here may still have blocks of another kind, which building it shows.
    """
    vision = config["vision_cfg"]
    return not (vision.get("timm_model_name") or vision.get("attentional_pool"))


@functools.cache
def _files() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for package, distribution in _PACKAGES.items():
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise WeightsError(f"{package} is not installed; install the package {distribution}.")
        folder = Path(spec.submodule_search_locations[0]) / "model_configs"
        found |= {path.stem: path for path in folder.glob("*.json")}
    return found
