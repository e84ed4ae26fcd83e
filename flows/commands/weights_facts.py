"""Facts on published weights: their model, and the commands that use them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flows.settings.build import DEFAULT_CLIP, DEFAULT_SELFMASK, DEFAULT_TRAINING_CLIP
from storage.weights.hub_folders import folder_of
from storage.weights.model_folders import read_config
from storage.weights.open_clip_configs import architecture_config, has_patch_tokens
from storage.weights.registry import HF_HUB, SELFMASK, ZUTIS, parse_clip
from storage.weights.shipped import SHIPPED


@dataclass(frozen=True)
class WeightsFacts:
    """Facts on one named file of weights.

    Attributes:
        model: CLIP, SigLIP, SelfMask or ZUTIS.
        purposes: the commands that use it, and those whose default it is.
    """

    model: str
    purposes: str


def facts_of(name: str) -> WeightsFacts:
    """The facts on a published or shipped name.

    Raises:
        WeightsError: a model of the hub that was fetched has lost its configuration.
    """
    if name in SELFMASK or (name in SHIPPED and SHIPPED[name].model == "SelfMask"):
        return WeightsFacts("SelfMask", f"build{' (default)' * (name == DEFAULT_SELFMASK)}")
    if name in ZUTIS:
        return WeightsFacts("ZUTIS", "predict, evaluate")
    return _facts_of_clip(name)


def _facts_of_clip(name: str) -> WeightsFacts:
    towers = _towers(name)
    purposes = {"build": name == DEFAULT_CLIP, "search": False}
    if has_patch_tokens(towers):
        purposes["train"] = name == DEFAULT_TRAINING_CLIP
    return WeightsFacts(
        "CLIP" if towers.get("init_logit_bias") is None else "SigLIP",
        ", ".join(f"{purpose}{' (default)' * is_it}" for purpose, is_it in purposes.items()),
    )


def _towers(name: str) -> Mapping[str, Any]:
    spec = parse_clip(name)
    if spec.architecture == HF_HUB:
        return read_config(folder_of(name))
    return architecture_config(spec.architecture)
