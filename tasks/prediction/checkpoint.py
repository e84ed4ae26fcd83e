"""ZUTIS checkpoints by a user's spec: the network, and the CLIP that it belongs to.

    open_checkpoint("store/train/0f3a...")              an artifact of training, or its model file
    open_checkpoint("coco_vit_b_16")                    published weights, by name
    open_checkpoint("zutis.pt")                         published weights, in a file
    open_checkpoint("ViT-B-32-quickgelu:random:0")      untrained, for trials

An artifact is complete. From a file of weights alone, as published, the architecture is identified
by names and shapes of tensors; it has no category names, no text embeddings and no weights of the
text tower.

Dimensions:
    k  categories, without the background
    d  width of the joint embedding
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from storage.access.roots import refuse_path
from storage.errors.exceptions import ConfigError, WeightsError
from storage.errors.numbers import LARGEST
from storage.files.json_files import is_text, parse_json
from storage.files.user_files import (
    MODEL_CONFIG,
    is_file,
    is_folder,
    open_limited,
    read_path,
    user_path,
)
from storage.files.user_files import (
    TEXT_EMBEDDINGS as TEXT_EMBEDDINGS_LIMIT,
)
from storage.vocabularies.vocabulary import Category
from storage.weights.registry import ZUTIS, parse_clip, seed_of
from storage.weights.resolving import check
from storage.weights.state_dicts import load_state_dict
from tasks.categories.category_texts import with_exact_prompts

if TYPE_CHECKING:
    from torch import Tensor

    from zutis_model.zutis.network import Zutis

MODEL = "model.safetensors"
DESCRIPTION = "model.json"
TEXT_EMBEDDINGS = "text_embeddings.npy"

_PUBLISHED_HEADS = 8
_QUICKGELU = "-quickgelu"


@dataclass(frozen=True, kw_only=True, eq=False)
class ZutisCheckpoint:
    """A ZUTIS network's weights and description.

    Attributes:
        label: for people, with `(untrained)` where that is the case.
        architecture: open_clip's name of the CLIP whose image tower is the encoder.
        state_dict: None for synthetic weights.
        seed: of synthetic weights.
        num_heads: attention heads of the decoder, which can't be inferred from the weights.
        untrained: predictions are meaningless, and must be marked as such.
        clip: the CLIP whose text tower belongs to it, ARCHITECTURE:WEIGHTS; '' if unknown.
        clip_digest: of that CLIP's weights; '' if unknown.
        categories: k names that it was trained for; empty if unknown.
        vocabulary: the same categories, with the prompts of the training.
        text_embeddings: float32 [k + 1, d], the background first; None if unknown.
    """

    label: str
    architecture: str
    state_dict: Mapping[str, Tensor] | None = field(repr=False)
    seed: int = 0
    num_heads: int = _PUBLISHED_HEADS
    untrained: bool = False
    clip: str = ""
    clip_digest: str = ""
    categories: tuple[str, ...] = ()
    vocabulary: tuple[Category, ...] = ()
    text_embeddings: NDArray[np.float32] | None = field(default=None, repr=False)

    @property
    def default_clip(self) -> str:
        """The CLIP for text embeddings: its own, else OpenAI's of its architecture.

        All published ZUTIS checkpoints were trained from OpenAI's. Empty where OpenAI has published
        none, and the user has to name one.
        """
        if self.clip or not self.architecture.endswith(_QUICKGELU):
            return self.clip
        return f"{self.architecture}:openai"


def open_checkpoint(spec: str | Path) -> ZutisCheckpoint:
    """Read a checkpoint and identify its network.

    Args:
        spec: the folder of a training artifact or the `model.safetensors` in it, the name of
            published weights, a file of weights, or ARCHITECTURE:random:SEED.

    Raises:
        OutsideRootsError: it is outside the roots.
        WeightsError: it is missing, can't be read, or is no ZUTIS network; the text says what it
            is instead.
    """
    text = str(spec)
    if ":random" in text:
        return _untrained(text)
    if text in ZUTIS:
        return _bare(_published(text), text)
    path = user_path(text)
    refuse_path(path)
    folder = path.parent if path.name == MODEL else path
    if is_file(folder / DESCRIPTION):
        return _artifact(folder)
    if is_folder(path):
        raise WeightsError(
            f"The folder {path} holds no {DESCRIPTION}, so it is no trained model; give the folder"
            " of a training artifact, or a file of weights."
        )
    if not is_file(path):
        raise WeightsError(
            f"There is no checkpoint {text}; give the folder of a training artifact, a file of"
            f" weights, ARCHITECTURE:random:SEED, or one of {', '.join(ZUTIS)}."
        )
    return _bare(path, text)


def load_network(checkpoint: ZutisCheckpoint, *, device: str, precision: str) -> Zutis:
    """The network of a checkpoint, in eval mode.

    Raises:
        WeightsError: the weights don't match the checkpoint's architecture.
        ConfigError: the device or precision does not exist.
    """
    from zutis_model.zutis.network import load_zutis

    _check_placement(device, precision)
    try:
        return load_zutis(
            checkpoint.state_dict,
            architecture=checkpoint.architecture,
            num_heads=checkpoint.num_heads,
            seed=checkpoint.seed,
            device=device,
            precision=precision,  # type: ignore[arg-type]  # checked there
        )
    except ValueError as error:
        raise WeightsError(
            f"The checkpoint {checkpoint.label} doesn't load as ZUTIS with"
            f" {checkpoint.architecture}: {error}."
        ) from error


def _check_placement(device: str, precision: str) -> None:
    import torch

    if precision not in ("float32", "bfloat16"):
        raise ConfigError(f"precision is {precision!r}: choose auto, float32 or bfloat16.")
    kind, _, number = device.partition(":")
    if kind != "cuda":
        return
    if int(number or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device is {device}: torch finds no such GPU here; choose cpu.")


def _untrained(spec: str) -> ZutisCheckpoint:
    clip = parse_clip(spec)
    seed = seed_of(clip.weights)
    if seed is None:
        raise WeightsError(
            f"{spec!r} is no checkpoint; for an untrained one, write ARCHITECTURE:random:SEED."
        )
    return ZutisCheckpoint(
        label=f"{spec} (untrained)",
        architecture=clip.architecture,
        state_dict=None,
        seed=seed,
        untrained=True,
        clip=spec,
    )


def _published(name: str) -> Path:
    (found,) = check(name)
    if found.status == "missing":
        raise WeightsError(
            f"The weights {name} are not on this machine: {found.path} is missing; run `zutis"
            f" weights fetch {name}`."
        )
    if found.status == "changed":
        raise WeightsError(
            f"The weights {name} in {found.path} are damaged or changed; delete the file and run"
            f" `zutis weights fetch {name}` again."
        )
    return found.path


def _bare(path: Path, label: str) -> ZutisCheckpoint:
    """A checkpoint of weights alone."""
    state_dict = load_state_dict(path)
    architecture = _architecture(state_dict, label)
    return ZutisCheckpoint(label=label, architecture=architecture, state_dict=state_dict)


def _architecture(state_dict: Mapping[str, Tensor], label: str) -> str:
    from zutis_model.checkpoints import identify_checkpoint

    try:
        found = identify_checkpoint(state_dict)
    except ValueError as error:
        raise WeightsError(f"The checkpoint {label} is of no known model: {error}.") from error
    if found.kind != "zutis":
        raise WeightsError(
            f"The checkpoint {label} is {found.description}; a ZUTIS network is needed here."
        )
    return found.architecture


def _artifact(folder: Path) -> ZutisCheckpoint:
    """The checkpoint of a training artifact."""
    description = _description(folder)
    state_dict = load_state_dict(folder / MODEL)
    untrained = bool(description.get("untrained", False))
    checkpoint = ZutisCheckpoint(
        label=f"{folder} (untrained)" if untrained else str(folder),
        architecture=description["architecture"],
        state_dict=state_dict,
        num_heads=description["num_heads"],
        untrained=untrained,
        clip=description.get("clip", "").removesuffix(" (untrained)"),
        clip_digest=description.get("clip_digest", ""),
        categories=tuple(description["categories"]),
        vocabulary=learned_categories(description),
        text_embeddings=_text_embeddings(folder, len(description["categories"])),
    )
    _check_agreement(checkpoint, description)
    return checkpoint


def learned_categories(description: Mapping[str, Any]) -> tuple[Category, ...]:
    """The categories of a `model.json`, with the prompts of the training."""
    names = description.get("categories", [])
    prompts = description.get("prompts") or [[name] for name in names]
    return tuple(
        with_exact_prompts(name, several) for name, several in zip(names, prompts, strict=True)
    )


def _description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    try:
        description = parse_json(read_path(path, MODEL_CONFIG))
        wrong = _wrong_keys(description)
    except (OSError, ValueError, AttributeError) as error:
        raise WeightsError(f"{path} can't be read ({error}); train again.") from error
    if wrong:
        raise WeightsError(
            f"{path} lacks {', '.join(wrong)}, or has values of another type there, so it does not"
            " describe a trained model."
        )
    result: dict[str, Any] = description
    return result


def _wrong_keys(description: dict[str, Any]) -> list[str]:
    """The keys of a `model.json` that are missing or of another type."""
    found: dict[str, bool] = {
        "architecture": is_text(description.get("architecture")),
        "num_heads": _is_count(description.get("num_heads")),
        "num_queries": _is_count(description.get("num_queries")),
        "categories": _are_texts(description.get("categories")),
        "clip": is_text(description.get("clip", "")),
        "clip_digest": is_text(description.get("clip_digest", "")),
    }
    prompts = description.get("prompts") or []
    found["prompts"] = isinstance(prompts, list) and all(map(_are_texts, prompts))
    if all(found.values()) and prompts and len(prompts) != len(description["categories"]):
        found["prompts"] = False
    return [key for key, right in found.items() if not right]


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LARGEST


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(is_text, value))


def _check_agreement(checkpoint: ZutisCheckpoint, description: Mapping[str, Any]) -> None:
    """Check the number of queries, which differs in files from two trainings; loading checks the
    rest."""
    assert checkpoint.state_dict is not None
    queries = len(checkpoint.state_dict.get("query_embed", ()))
    if queries != description["num_queries"]:
        raise WeightsError(
            f"In {checkpoint.label}, {MODEL} has {queries} queries and {DESCRIPTION} says"
            f" {description['num_queries']}: they are from different trainings."
        )


def _text_embeddings(folder: Path, num_categories: int) -> NDArray[np.float32] | None:
    path = folder / TEXT_EMBEDDINGS
    if not path.is_file():
        return None
    try:
        open_limited(path, TEXT_EMBEDDINGS_LIMIT).close()
        # Mapped first, so that a wrong shape in the header allocates no memory.
        embeddings = np.array(np.load(path, mmap_mode="r", allow_pickle=False))
    except MemoryError:  # not the file's fault
        raise
    except Exception as error:  # for damaged headers numpy raises any error of Python's parser
        why = " ".join(str(error).split())
        raise WeightsError(f"{path} can't be read ({why}); train again.") from error
    if embeddings.dtype != np.float32 or embeddings.shape[:-1] != (num_categories + 1,):
        raise WeightsError(
            f"{path} has {embeddings.dtype} {list(embeddings.shape)} instead of one row of float32"
            f" for the background and each of the {num_categories} categories of {DESCRIPTION}."
        )
    result: NDArray[np.float32] = embeddings
    return result
