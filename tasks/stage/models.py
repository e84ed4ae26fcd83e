"""The networks that stages use, identified by configuration and loaded once per process."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from storage.errors.exceptions import ConfigError, WeightsError
from storage.weights.model_folders import read_config
from storage.weights.open_clip_configs import (
    architecture_config,
    clip_architectures,
    has_patch_tokens,
)
from storage.weights.registry import parse_clip
from storage.weights.resolving import ResolvedWeights, resolve
from storage.weights.state_dicts import load_state_dict

if TYPE_CHECKING:
    from zutis_model.clip.towers import Clip
    from zutis_model.saliency.selfmask import SelfMask

# Without the lock, two parts that start at once would load the model twice.
_loading = threading.Lock()


GIVEN_MASKS: Final = "given-masks"
"""The architecture of a configuration that stands for masks that a user has."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A network, its weights, device and precision.

    Attributes:
        architecture: open_clip's name of the architecture, or `selfmask`. For a folder whose model
            has no name in open_clip, that of its image tower.
        weights: the source of the weights, and their digest.
        device: `cpu`, `cuda` or `cuda:N`. Not part of any key.
        precision: `float32` or `bfloat16` (autocast). Part of the key: it changes numbers.
    """

    architecture: str
    weights: ResolvedWeights
    device: str = "cpu"
    precision: str = "float32"

    def __post_init__(self) -> None:
        if self.precision not in ("float32", "bfloat16"):
            raise ConfigError(f"precision is {self.precision!r}: choose auto, float32 or bfloat16.")

    @property
    def identity(self) -> dict[str, str]:
        """The part that, with the weights' digest, determines the network's outputs."""
        return {"architecture": self.architecture, "precision": self.precision}


def resolve_clip(spec: str, *, device: str = "cpu", precision: str = "float32") -> ModelConfig:
    """The model of a user's spec, if it is here; see `storage.weights.registry.parse_clip`.

    Raises:
        WeightsError: there is no such model, or its weights are missing or damaged.
    """
    parsed = parse_clip(spec)
    weights = resolve(parsed)
    return ModelConfig(
        architecture=weights.architecture or parsed.architecture,
        weights=weights,
        device=device,
        precision=precision,
    )


def require_patch_tokens(config: ModelConfig, purpose: str) -> None:
    """Refuse a CLIP without patch tokens in the joint embedding, before it is loaded.

    Args:
        config: of a CLIP.
        purpose: what needs the patch tokens, such as `training`.

    Raises:
        WeightsError: its image tower has no such tokens, as SigLIP's.
    """
    folder = config.weights.folder
    towers = read_config(folder) if folder else architecture_config(config.architecture)
    if not has_patch_tokens(towers):
        tower = towers["vision_cfg"].get("timm_model_name") or "with attentional pooling"
        raise WeightsError(
            f"{config.weights.label} can't be used for {purpose}: its image tower ({tower}) has no"
            " patch tokens that could be compared with texts; it can index and search, but for"
            f" {purpose} give one of CLIP's ViTs or ResNets, such as ViT-B-16-quickgelu:openai."
        )


def require_trainable(config: ModelConfig) -> None:
    """Refuse a CLIP that ZUTIS can't be trained from, before it is loaded.

    Raises:
        WeightsError: it has no patch tokens, or no name in open_clip by which its network could be
            created again.
    """
    require_patch_tokens(config, "training")
    if config.weights.folder is not None and config.architecture not in clip_architectures():
        raise WeightsError(
            f"{config.weights.label} can't be trained: its architecture has no name in open_clip,"
            " without which a checkpoint could not be loaded again; give ARCHITECTURE:WEIGHTS,"
            " such as ViT-B-16-quickgelu:openai."
        )


def load_clip_model(config: ModelConfig) -> Clip:
    """The CLIP model of a configuration; loaded once and shared by the threads of a process."""
    with _loading:
        return _load_clip(config)


def load_selfmask_model(config: ModelConfig) -> SelfMask:
    """The SelfMask network of a configuration; loaded once and shared in the same way."""
    with _loading:
        return _load_selfmask(config)


def clip_dimension(config: ModelConfig) -> int | None:
    """d of a CLIP's embeddings, by its architecture; None if unknown before loading."""
    from zutis_model.clip.architectures import embedding_dim

    return embedding_dim(config.architecture)


def check_selfmask_weights(config: ModelConfig) -> None:
    """Check by loading, on the CPU, that the weights are SelfMask's; the network is discarded.

    Raises:
        WeightsError: they are of another network, or incomplete.
    """
    from zutis_model.saliency.selfmask import load_selfmask

    if config.weights.path is None:
        return
    try:
        load_selfmask(_state_dict(config))
    except ValueError as error:
        raise _wrong_weights(config, error) from error


@lru_cache(maxsize=2)
def _load_clip(config: ModelConfig) -> Clip:
    from zutis_model.clip.folders import load_clip_folder
    from zutis_model.clip.towers import load_clip

    try:
        if config.weights.folder is not None:
            placement = {"device": config.device, "precision": config.precision}
            return load_clip_folder(config.weights.folder, _state_dict(config), **placement)  # type: ignore[arg-type]  # checked above
        return load_clip(config.architecture, _state_dict(config), **_placement(config))
    except ValueError as error:
        raise _wrong_weights(config, error) from error


@lru_cache(maxsize=2)
def _load_selfmask(config: ModelConfig) -> SelfMask:
    from zutis_model.saliency.selfmask import load_selfmask

    try:
        return load_selfmask(_state_dict(config), **_placement(config))
    except ValueError as error:
        raise _wrong_weights(config, error) from error


def _state_dict(config: ModelConfig) -> Any:
    return None if config.weights.path is None else load_state_dict(config.weights.path)


def _placement(config: ModelConfig) -> dict[str, Any]:
    return {
        "seed": config.weights.seed or 0,
        "device": config.device,
        "precision": config.precision,
    }


def _wrong_weights(config: ModelConfig, error: ValueError) -> WeightsError:
    return WeightsError(f"{config.weights.label} can't be loaded as {config.architecture}: {error}")
