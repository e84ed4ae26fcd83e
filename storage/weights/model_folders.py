"""A model in a folder: configuration, weights and tokenizer files as one unit.

This is the form in which open_clip saves models (`local-dir:`) and publishes them on the Hugging
Face hub: `open_clip_config.json`, `open_clip_model.safetensors`, and where the text tower uses
one of transformers' tokenizers, that tokenizer's files. All three decide embeddings, so the digest
of a model covers all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from storage.artifacts.fingerprints import digest
from storage.errors.exceptions import WeightsError
from storage.errors.sentences import listed
from storage.files.json_files import parse_json
from storage.files.user_files import MODEL_CONFIG, is_file, is_folder, read_path
from storage.weights.open_clip_configs import hub_text_tower, hub_tokenizer

CONFIG: Final = "open_clip_config.json"
WEIGHTS: Final = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""open_clip's names of a folder's weights, in order of preference."""

_WEIGHTS_SUFFIXES: Final = (".safetensors", ".bin", ".pt", ".pth")
_TOKENIZER_SUFFIXES: Final = (".json", ".txt", ".model")
_VOCABULARIES: Final = (
    "tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.json",
    "vocab.txt",
)  # fmt: skip
"""A tokenizer has at least one of these files."""


@dataclass(frozen=True, kw_only=True)
class ModelFolder:
    """A folder that holds a whole model.

    Attributes:
        path: the folder.
        config: the model's configuration, with both towers.
        weights: the file of weights.
        files: sha256 in hex of every file that belongs to the model, by name.
        digest: of the model: the configuration, the weights and the tokenizer.
    """

    path: Path
    config: Mapping[str, Any]
    weights: Path
    files: Mapping[str, str]
    digest: str


def open_model_folder(path: Path, digest_of: Callable[[Path], str]) -> ModelFolder:
    """The model in a folder.

    Args:
        path: the folder, in open_clip's `local-dir:` form.
        digest_of: a file's sha256 in hex.

    Raises:
        WeightsError: a part is missing or can't be read, or open_clip would have to download one.
    """
    config = read_config(path)
    weights = _weights_in(path)
    names = _names(path)
    tokenizer = tokenizer_files(names) if hub_tokenizer(config) else []
    if hub_tokenizer(config) and not set(_VOCABULARIES) & set(tokenizer):
        raise WeightsError(
            f"{path} has no tokenizer, which its {CONFIG} asks for: put the files of"
            f" {hub_tokenizer(config)} into it (tokenizer.json, tokenizer_config.json, …)."
        )
    files = {name: digest_of(path / name) for name in (CONFIG, weights.name, *tokenizer)}
    facts = {
        "config": _deciding(_json(path / CONFIG)),
        "weights": files[weights.name],
        "tokenizer": {name: files[name] for name in tokenizer},
    }
    try:
        model_digest = digest(facts)
    except ValueError as error:  # a number that is none
        raise _unreadable(path / CONFIG, error) from error
    return ModelFolder(path=path, config=config, weights=weights, files=files, digest=model_digest)


def read_config(path: Path) -> Mapping[str, Any]:
    """The `model_cfg` of a folder, which has both towers.

    Raises:
        WeightsError: there is no such folder or file, it describes no model, or its text
            tower would have to be downloaded.
    """
    if not is_folder(path):
        raise WeightsError(
            f"There is no folder {path}; give one that holds {CONFIG}, weights and a tokenizer."
        )
    if not is_file(path / CONFIG):
        raise WeightsError(
            f"The folder {path} has no {CONFIG}, so that its model is unknown; give a"
            " folder that open_clip has saved, or one file of weights as ARCHITECTURE:FILE."
        )
    config = _json(path / CONFIG)
    check_config(config, f"{path / CONFIG}")
    model: Mapping[str, Any] = config["model_cfg"]
    return model


def check_config(config: Any, where: str) -> None:
    """Raises `WeightsError` unless this is a configuration that can be built without a download."""
    model = config.get("model_cfg") if isinstance(config, dict) else None
    towers = ("vision_cfg", "text_cfg")
    if not isinstance(model, dict) or not all(isinstance(model.get(t), dict) for t in towers):
        raise WeightsError(
            f"{where} describes no model that open_clip could build: it has no model_cfg with"
            f" {' and '.join(towers)}; take the file that was published with the weights."
        )
    if hub_text_tower(model):
        raise WeightsError(
            f"{where} has {hub_text_tower(model)} for its text tower, which open_clip can only"
            " build with a download; use a model whose text tower is open_clip's own, such as"
            " ViT-B-16-SigLIP2:webli."
        )


def tokenizer_files(names: Iterable[str]) -> list[str]:
    """The files of a folder or repository that a tokenizer may be read from, sorted.

    They depend on the tokenizer: all JSON, text and sentencepiece files are taken.
    """
    return sorted(
        name
        for name in names
        if PurePosixPath(name).suffix in _TOKENIZER_SUFFIXES
        and "/" not in name
        and name != CONFIG
        and not name.endswith(".index.json")
    )


def _names(path: Path) -> list[str]:
    return [file.name for file in path.iterdir() if file.is_file()]


def _weights_in(path: Path) -> Path:
    for name in WEIGHTS:
        if (path / name).is_file():
            return path / name
    found = sorted(name for name in _names(path) if Path(name).suffix in _WEIGHTS_SUFFIXES)
    if len(found) == 1:
        return path / found[0]
    if found:
        raise WeightsError(
            f"The folder {path} has several files of weights ({listed(found, 3)}): call the one to"
            f" use {WEIGHTS[0]}."
        )
    raise WeightsError(f"The folder {path} has no weights: put {WEIGHTS[0]} into it.")


def _json(path: Path) -> Any:
    try:
        return parse_json(read_path(path, MODEL_CONFIG))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> WeightsError:
    return WeightsError(
        f"{path} can't be read ({error}); take the file that was published with the weights."
    )


def _deciding(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration that decides embeddings: the towers and the preprocessing."""
    return {name: config.get(name) or {} for name in ("model_cfg", "preprocess_cfg")}
