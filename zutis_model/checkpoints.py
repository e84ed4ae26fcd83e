"""Identification of a state dict's model, and loading of that model.

The parameter names and shapes of the published files identify the model; users need not state it,
and a file of another model is not loaded by accident.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from zutis_model.clip.architectures import (
    architectures_of_clip,
    architectures_of_image_tower,
    likely_architecture,
)
from zutis_model.clip.towers import OPENAI_EXTRAS, Clip, load_clip
from zutis_model.encoders.dense_vit import ARCHITECTURES, DenseVit, load_dense_vit
from zutis_model.layers.precision import Precision
from zutis_model.saliency.selfmask import SelfMask, load_selfmask
from zutis_model.saliency.selfmask_sizes import sizes_of_state_dict
from zutis_model.zutis.network import Zutis, load_zutis

Kind = Literal["selfmask", "zutis", "clip", "dense_vit"]

_KEYS_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The model that a state dict belongs to.

    Attributes:
        kind: the family of models.
        architecture: open_clip's name for CLIP and for ZUTIS's image tower, timm's for a dense
            ViT, `selfmask` for SelfMask.
        description: for people.
    """

    kind: Kind
    architecture: str
    description: str


def identify_checkpoint(state_dict: Mapping[str, Tensor]) -> Checkpoint:
    """The model that a state dict belongs to. Missing keys are found only by loading it.

    Args:
        state_dict: as `storage.weights.state_dicts.load_state_dict` reads it from a published file.

    Raises:
        ValueError: it is none of the models that are known here; the message names its first keys.
    """
    names = state_dict.keys()
    if "query_embed" in names and _any_below(names, "encoder.blocks."):
        return _selfmask(state_dict)
    if "query_embed" in names and (found := _zutis(state_dict)):
        return found
    if _any_below(names, "visual.") and (found := _clip(state_dict)):
        return found
    if found := _dense_vit(state_dict):
        return found
    shown = ", ".join(list(names)[:_KEYS_SHOWN]) or "nothing"
    raise ValueError(
        "neither SelfMask, ZUTIS, a CLIP of open_clip's, DINO ViT-S nor DeiT-S;"
        f" its {len(names)} keys begin with {shown}"
    )


def load_checkpoint(
    state_dict: Mapping[str, Tensor],
    checkpoint: Checkpoint | None = None,
    *,
    precision: Precision = "float32",
) -> SelfMask | Zutis | Clip | DenseVit:
    """The model of a state dict, with its weights, in eval mode on the CPU.

    Args:
        state_dict: see `identify_checkpoint`.
        checkpoint: the result of `identify_checkpoint`, if it is known already.
        precision: of the model's arithmetic.

    Raises:
        ValueError: it is of no known model, or keys are missing, unexpected or of another shape;
            the message names them.
    """
    checkpoint = checkpoint or identify_checkpoint(state_dict)
    if checkpoint.kind == "selfmask":
        return load_selfmask(state_dict, precision=precision)
    if checkpoint.kind == "zutis":
        return load_zutis(state_dict, architecture=checkpoint.architecture, precision=precision)
    if checkpoint.kind == "clip":
        return load_clip(checkpoint.architecture, state_dict, precision=precision)
    return load_dense_vit(checkpoint.architecture, state_dict, precision=precision)


def _selfmask(state_dict: Mapping[str, Tensor]) -> Checkpoint:
    return Checkpoint(
        kind="selfmask",
        architecture="selfmask",
        description=f"SelfMask ({sizes_of_state_dict(state_dict)})",
    )


def _zutis(state_dict: Mapping[str, Tensor]) -> Checkpoint | None:
    found = architectures_of_image_tower(_below(state_dict, "encoder."))
    architecture = likely_architecture(found)
    if architecture is None:
        return None
    queries = len(state_dict["query_embed"])
    return Checkpoint(
        kind="zutis",
        architecture=architecture,
        description=f"ZUTIS ({architecture}, {queries} queries)",
    )


def _clip(state_dict: Mapping[str, Tensor]) -> Checkpoint | None:
    architectures = architectures_of_clip(state_dict)
    architecture = likely_architecture(architectures)
    if architecture is None:
        return None
    if state_dict.keys() & OPENAI_EXTRAS:
        description = f"CLIP ({architecture}, as OpenAI published it)"
    else:
        architecture = architectures[0]
        description = f"CLIP ({' or '.join(architectures)}: the weights leave it open)"
    return Checkpoint(kind="clip", architecture=architecture, description=description)


def _dense_vit(state_dict: Mapping[str, Tensor]) -> Checkpoint | None:
    patches = state_dict.get("patch_embed.proj.weight")
    if patches is None:
        return None
    if "dist_token" in state_dict:
        architecture = "deit_small_distilled_patch16_224"
    elif "head.weight" in state_dict:  # DINO is trained without labels and has no classifier
        architecture = "deit_small_patch16_224"
    else:
        architecture = f"vit_small_patch{patches.shape[-1]}_224.dino"
    if architecture not in ARCHITECTURES:
        return None
    return Checkpoint(
        kind="dense_vit", architecture=architecture, description=f"encoder ({architecture})"
    )


def _below(state_dict: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state_dict.items() if k.startswith(prefix)}


def _any_below(names: Iterable[str], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in names)
