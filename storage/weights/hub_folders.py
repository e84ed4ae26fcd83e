"""Published models that are kept as folders: SigLIP, and the hub's models for open_clip.

    ViT-B-16-SigLIP2:webli           a tag of open_clip whose weights alone are not enough
    hf-hub:timm/ViT-B-16-SigLIP2     a repository of the Hugging Face hub

They are in `models/` in the weights folder, each beside a record of its files' addresses and
sha256. `hub_download.fetch_hub_folder` fetches all files together and writes the record last; from
then on no request is made. A file that disagrees with its record is never used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from storage.errors.exceptions import WeightsError
from storage.files.json_files import is_text, parse_json
from storage.files.user_files import RECORD, read_path
from storage.weights.files import weights_folder, write_json
from storage.weights.model_folders import CONFIG, WEIGHTS, ModelFolder, open_model_folder
from storage.weights.open_clip_configs import architecture_config, hub_tokenizer
from storage.weights.registry import (
    HF_HUB,
    LOCAL_DIR,
    ClipSpec,
    hub_files,
    is_path,
    open_clip_entry,
    seed_of,
)
from storage.weights.shipped import SHIPPED

PREPARED_OTHERWISE: Final = frozenset(
    {
        "MobileCLIP-B:datacompdr",
        "MobileCLIP-B:datacompdr_lt",
        "MobileCLIP-S1:datacompdr",
        "MobileCLIP-S2:datacompdr",
        "MobileCLIP2-B:dfndr2b",
        "MobileCLIP2-S0:dfndr2b",
        "MobileCLIP2-S2:dfndr2b",
        "MobileCLIP2-S3:dfndr2b",
        "MobileCLIP2-S4:dfndr2b",
        "PE-Core-B-16:meta",
        "PE-Core-L-14-336:meta",
        "PE-Core-S-16-384:meta",
        "PE-Core-T-16-384:meta",
        "PE-Core-bigG-14-448:meta",
        "ViT-H-14-378-quickgelu:dfn5b",
        "ViT-H-14-quickgelu:dfn5b",
        "ViT-L-14:laion2b_s32b_b82k",
    }
)
"""Tags with CLIP's own tokenizer whose images are not prepared as OpenAI's: as a folder, a model
brings its preprocessing along. open_clip's table has this, but takes seconds to import."""


@dataclass(frozen=True, kw_only=True)
class HubFolder:
    """A published model, and the sources of its parts.

    Attributes:
        name: as users write it.
        repository: OWNER/NAME on the hub, of the weights.
        weights: possible names of their file, in order of preference.
        config: the content of `open_clip_config.json`; None: the repository's own.
    """

    name: str
    repository: str
    weights: tuple[str, ...]
    config: Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class HubFile:
    """One file of a model that was fetched: its sha256 in hex, and its address, if it has one."""

    sha256: str
    url: str | None


@dataclass(frozen=True, kw_only=True)
class HubRecord:
    """The record of a fetched model; kept as JSON beside its folder."""

    name: str
    files: Mapping[str, HubFile]


def is_hub_folder(spec: ClipSpec) -> bool:
    """Whether a model is kept as a folder: its weights alone are not enough."""
    if spec.architecture == HF_HUB:
        return True
    if spec.architecture == LOCAL_DIR or seed_of(spec.weights) is not None or is_path(spec.weights):
        return False
    if str(spec) in SHIPPED:
        return False
    has_tokenizer = hub_tokenizer(architecture_config(spec.architecture))
    return bool(has_tokenizer) or str(spec) in PREPARED_OTHERWISE


def hub_folder(spec: ClipSpec) -> HubFolder:
    """The sources of a model's parts. Imports open_clip for a tag.

    Args:
        spec: one that `is_hub_folder`.

    Raises:
        WeightsError: open_clip knows no such weights; the message names those that exist.
    """
    if spec.architecture == HF_HUB:
        return HubFolder(name=str(spec), repository=spec.weights, weights=WEIGHTS, config=None)
    entry = open_clip_entry(spec.architecture, spec.weights)
    repository, files = hub_files(entry)
    preprocessing = ("mean", "std", "interpolation", "resize_mode")
    return HubFolder(
        name=str(spec),
        repository=repository,
        weights=files,
        config={
            "model_cfg": dict(architecture_config(spec.architecture)),
            "preprocess_cfg": {name: entry[name] for name in preprocessing if name in entry},
        },
    )


# --- on this machine ----------------------------------------------------------------------------


def folder_of(name: str) -> Path:
    """The folder of the model of that name, which need not exist."""
    return weights_folder() / "models" / name.replace(":", "--").replace("/", "--")


def record_of(name: str) -> Path:
    """The path of the record of the model of that name."""
    folder = folder_of(name)
    return folder.with_name(f"{folder.name}.json")


def read_hub_record(path: Path) -> HubRecord | None:
    """A record, or None if there is none; raises `WeightsError` where it can't be read."""
    try:
        content = parse_json(read_path(path, RECORD))
        files = {name: HubFile(**file) for name, file in content["files"].items()}
        texts = (content["name"], *files, *(file.sha256 for file in files.values()))
        if not all(map(is_text, texts)):
            raise ValueError("its name, a file's or a sha256 is no text")
        return HubRecord(name=content["name"], files=files)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise WeightsError(
            f"The record {path} can't be read ({error!r}); delete it, and fetch the model again."
        ) from error


def write_hub_record(record: HubRecord) -> None:
    """Keep a record; raises `StorageError` where the folder can't be written."""
    write_json(record_of(record.name), asdict(record))


def hub_records() -> list[HubRecord]:
    """The records of all fetched models, sorted by name."""
    paths = (weights_folder() / "models").glob("*.json")
    records = [record for path in paths if (record := read_hub_record(path))]
    return sorted(records, key=lambda record: record.name)


def resolve_hub_folder(spec: ClipSpec, digest_of: Callable[[Path], str]) -> ModelFolder:
    """The model of a spec, if it is here and intact.

    Args:
        spec: one that `is_hub_folder`.
        digest_of: a file's sha256 in hex.

    Raises:
        WeightsError: it was not fetched, or its bytes are not those that were recorded.
    """
    name = str(spec)
    record = read_hub_record(record_of(name))
    if record is None:
        raise _missing(hub_folder(spec))
    folder = folder_of(name)
    for file in record.files:
        if not (folder / file).is_file():
            raise WeightsError(
                f"The model {name} has lost {folder / file}; run `zutis weights fetch {name}`"
                " again."
            )
    model = open_model_folder(folder, digest_of)
    if damaged := changed_file(record, model):
        raise WeightsError(
            f"The model {name} is damaged or changed: {folder / damaged} has not the sha256 that"
            f" was recorded; run `zutis weights fetch {name}` again."
        )
    return model


def changed_file(record: HubRecord, model: ModelFolder) -> str | None:
    """The first file that differs from its record or has none; None if there is none."""
    recorded = {name: file.sha256 for name, file in record.files.items()}
    names = sorted(recorded.keys() | model.files.keys())
    return next((name for name in names if recorded.get(name) != model.files.get(name)), None)


def _missing(model: HubFolder) -> WeightsError:
    return WeightsError(
        f"The model {model.name} is not on this machine: {folder_of(model.name)} is missing; run"
        f" `zutis weights fetch {model.name}`, or, without a network here, download"
        f" https://huggingface.co/{model.repository} elsewhere, with {CONFIG}, weights and"
        f" tokenizer, and give its folder as --clip {LOCAL_DIR}:FOLDER."
    )
