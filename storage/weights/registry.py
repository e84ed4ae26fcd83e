"""Names of weights: their syntax, and the registry of published weights.

SelfMask's and ZUTIS's models have addresses of their own. CLIP's come from open_clip's table of
published weights, of which the Hugging Face hub's copy is used, because it is a plain file of
tensors: the addresses of OpenAI itself serve TorchScript archives, which can't be read without
running code from them. The demonstration's small models are in this package, in
`shipped_weights/`, with a card that describes their making.

Importing open_clip imports torch and takes seconds, so only functions whose docstrings mention it
do so; the known architectures are read from the files that open_clip and `zutis_model` ship.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

from storage.errors.exceptions import WeightsError
from storage.weights.open_clip_configs import (
    architecture_config,
    clip_architectures,
    hub_text_tower,
    hub_tokenizer,
)
from storage.weights.shipped import SHIPPED

LOCAL_DIR: Final = "local-dir"
HF_HUB: Final = "hf-hub"
"""open_clip's own prefixes for a model in a folder, and for one in a repository of the hub."""

WEIGHTS_SUFFIXES: Final = (".safetensors", ".pt", ".pth", ".bin")

_QUICKGELU: Final = "-quickgelu"


@dataclass(frozen=True, kw_only=True)
class Download:
    """One address that a file of weights can be fetched from."""

    url: str
    sha256: str | None = None
    """Known beforehand, in hex; otherwise the digest of the first fetch is recorded and binding."""

    @property
    def suffix(self) -> str:
        """The file name's suffix, such as `.safetensors`: it decides how the file is read."""
        return PurePosixPath(urlsplit(self.url).path).suffix


@dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    """Weights that are known by name."""

    name: str
    """As users write it: `nq20`, `ViT-B-32-quickgelu:openai`."""
    stem: str
    """The cached file's name without its suffix."""
    downloads: tuple[Download, ...]
    """In order of preference; each one serves the same weights."""


# --- SelfMask -----------------------------------------------------------------------------------

_SELFMASK_RELEASE: Final = "https://github.com/NoelShin/selfmask/releases/download/v1.0.0"

SELFMASK: Final[Mapping[str, PublishedWeights]] = MappingProxyType(
    {
        "nq20": PublishedWeights(
            name="nq20",
            stem="selfmask_nq20",
            downloads=(
                Download(url=f"{_SELFMASK_RELEASE}/selfmask_nq20.pt"),
                # The address that the ZUTIS and NamedMask code downloads from.
                Download(
                    url="https://www.robots.ox.ac.uk/~vgg/research/selfmask/shared_files/"
                    "selfmask_nq20.pt"
                ),
            ),
        ),
        "nq10": PublishedWeights(
            name="nq10",
            stem="selfmask_nq10",
            downloads=(Download(url=f"{_SELFMASK_RELEASE}/selfmask_nq10.pt"),),
        ),
    }
)
"""SelfMask with 20 and with 10 queries, from the addresses in github.com/NoelShin/selfmask."""


# --- ZUTIS --------------------------------------------------------------------------------------

_ZUTIS_FILES: Final = "https://www.robots.ox.ac.uk/~vgg/research/zutis/shared_files"


def _zutis(folder: str, name: str) -> PublishedWeights:
    url = f"{_ZUTIS_FILES}/{folder}/{name}.pt"
    return PublishedWeights(name=name, stem=f"zutis_{name}", downloads=(Download(url=url),))


ZUTIS: Final[Mapping[str, PublishedWeights]] = MappingProxyType(
    {
        weights.name: weights
        for weights in (
            _zutis("coco2017", "coco_vit_b_16"),
            _zutis("coca", "coca_vit_b_16"),
            _zutis("imagenet-s919", "imagenet_s919_vit_b_16"),
            _zutis("imagenet-s919", "imagenet_s919_vit_b_32"),
        )
    }
)
"""ZUTIS trained for each benchmark, from the addresses in github.com/NoelShin/zutis."""


# --- CLIP ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Pin:
    repository: str
    revision: str
    sha256: str


# Revision and digest as the hub itself gives them, for the two models of the ZUTIS paper. The
# hub's `main` branch can move; a revision can't.
_PINS: Final[Mapping[str, _Pin]] = MappingProxyType(
    {
        "ViT-B-32-quickgelu:openai": _Pin(
            repository="timm/vit_base_patch32_clip_224.openai",
            revision="a6f597a30f7b82c51704746581f9a4e41421e878",
            sha256="e6d1bd7789aa45192b3bf90570a789b478bae1b74ebcce7eddd908e83a2b7c31",
        ),
        "ViT-B-16-quickgelu:openai": _Pin(
            repository="timm/vit_base_patch16_clip_224.openai",
            revision="977e3dd0ec55ab8da155f2fbeb6b5f54948b6e3d",
            sha256="4b8699299b1e8997753c64b052ba32031449d5d853f55a039148560ee02b820f",
        ),
    }
)


def pinned_digests() -> dict[str, str]:
    """Names of the CLIP weights whose sha256 is known beforehand, by it."""
    return {pin.sha256: name for name, pin in _PINS.items()}


RECOMMENDED_CLIP: Final[tuple[str, ...]] = tuple(_PINS)
"""The CLIP weights that the ZUTIS paper's figures were made with."""

DEFAULT_CLIP: Final = "ViT-L-14-336-quickgelu:openai"
"""The CLIP for indexing and retrieval in a build."""

SIGLIP: Final = (
    "ViT-B-16-SigLIP2:webli",
    "ViT-L-16-SigLIP2-384:webli",
    "ViT-SO400M-16-SigLIP2-384:webli",
    "ViT-SO400M-14-SigLIP-384:webli",
)
"""Of the SigLIPs that open_clip knows, the usual ones."""

_HUB: Final = "https://huggingface.co"
_HUB_DEFAULTS: Final = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def clip_name(architecture: str, tag: str) -> str:
    """The one spelling of a published CLIP: tags are lower case with underscores."""
    return f"{architecture}:{_clean_tag(tag)}"


def clip_stem(name: str) -> str:
    """The cached file's name, without suffix, of `ARCH:TAG`. Needs no import of open_clip."""
    return name.replace(":", "--")


def published_clip(architecture: str, tag: str) -> PublishedWeights:
    """The addresses of the weights `ARCH:TAG`. Imports open_clip, unless they are pinned here.

    Args:
        architecture: one of `clip_architectures()`.
        tag: such as `openai` or `laion2b_s34b_b79k`.

    Raises:
        WeightsError: open_clip knows no such weights for this architecture; the message names
            the tags that exist.
    """
    name = clip_name(architecture, tag)
    pin = _PINS.get(name)
    if pin is not None:
        url = f"{_HUB}/{pin.repository}/resolve/{pin.revision}/{_HUB_DEFAULTS[0]}"
        downloads: tuple[Download, ...] = (Download(url=url, sha256=pin.sha256),)
    else:
        downloads = _downloads(open_clip_entry(architecture, tag))
    return PublishedWeights(name=name, stem=clip_stem(name), downloads=downloads)


def open_clip_entry(architecture: str, tag: str) -> Mapping[str, Any]:
    """The entry of the weights `ARCH:TAG` in open_clip's table; imports open_clip.

    Raises:
        WeightsError: as `published_clip`.
    """
    from open_clip import pretrained

    entry: Mapping[str, Any] = pretrained.get_pretrained_cfg(architecture, tag)
    if not entry:
        tags = [
            *(name.partition(":")[2] for name in SHIPPED if name.startswith(f"{architecture}:")),
            *pretrained.list_pretrained_tags_by_model(architecture),
        ]
        listed = f"it has {', '.join(tags)}" if tags else "it has none; use random:SEED or a file"
        raise WeightsError(
            f"There are no published weights {tag!r} for the CLIP architecture {architecture};"
            f" {listed}."
        )
    # Weights trained with QuickGELU load into the plain architecture without complaint and then
    # give embeddings that are wrong by a little: better to refuse.
    right_name = architecture + _QUICKGELU
    if (
        entry.get("quick_gelu")
        and not architecture.endswith(_QUICKGELU)
        and right_name in clip_architectures()
    ):
        raise WeightsError(
            f"The weights {tag!r} for {architecture} were trained with QuickGELU, which is an"
            f" architecture of its own; write {right_name}:{tag}."
        )
    return entry


def _downloads(entry: Mapping[str, Any]) -> tuple[Download, ...]:
    """The addresses of one entry of open_clip's table, safetensors first."""
    if not entry.get("hf_hub"):
        return (Download(url=entry["url"]),)
    repository, files = hub_files(entry)
    return tuple(Download(url=f"{_HUB}/{repository}/resolve/main/{file}") for file in files)


def hub_files(entry: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Repository and names of the weights of an entry with `hf_hub`, safetensors first."""
    # "OWNER/REPOSITORY/" with the default file names, or "OWNER/REPOSITORY/FILE".
    repository, _, file = entry["hf_hub"].rpartition("/")
    files = (str(PurePosixPath(file).with_suffix(".safetensors")), file) if file else _HUB_DEFAULTS
    return repository, tuple(dict.fromkeys(files))


# --- what users write ---------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ClipSpec:
    """A CLIP model: an open_clip architecture, and the source of its weights."""

    architecture: str
    """Or `local-dir` or `hf-hub`, where the folder or repository defines it."""
    weights: str
    """`random:SEED`, a tag, or the path of a file; of a folder, or OWNER/NAME of a repository."""

    def __str__(self) -> str:
        return f"{self.architecture}:{self.weights}"


@dataclass(frozen=True, kw_only=True)
class SelfMaskSpec:
    """A SelfMask model by the source of its weights."""

    weights: str
    """`nq20`, `nq10`, `demo`, `random:SEED`, or the path of a file."""

    def __str__(self) -> str:
        return self.weights


def parse_clip(spec: str) -> ClipSpec:
    """Parse the name of a CLIP, without importing torch and without looking for any file.

    Args:
        spec: ARCH:WEIGHTS, such as `ViT-B-32-quickgelu:openai`, `ViT-B-16-SigLIP2:webli`,
            `ViT-B-32:random:0`, `ViT-B-16:clip.safetensors`; `hf-hub:OWNER/NAME`; or a folder that
            open_clip has saved, by its path or as `local-dir:PATH`. The tag `openai` means the
            `-quickgelu` architecture, with or without that suffix: OpenAI trained all its models
            so, and open_clip keeps QuickGELU as an architecture of its own.

    Raises:
        WeightsError: of none of these forms, an architecture that open_clip doesn't know or can't
            build without a download, or a seed that is no whole number from 0.
    """
    if _is_folder(spec):
        return ClipSpec(architecture=LOCAL_DIR, weights=spec)
    architecture, _, weights = spec.partition(":")
    if architecture in (LOCAL_DIR, HF_HUB):
        return _in_one_place(architecture, weights)
    _check_architecture(architecture)
    tokenizer = hub_tokenizer(architecture_config(architecture))
    if not weights:
        forms = ("webli",) if tokenizer else ("openai", "random:0", "FILE.safetensors")
        raise WeightsError(
            f"{spec!r} names no weights; write ARCH:WEIGHTS, such as"
            f" {' or '.join(f'{architecture}:{form}' for form in forms)}."
        )
    if seed_of(weights) is not None or is_path(weights):
        if tokenizer:
            raise WeightsError(
                f"{architecture} has no tokenizer in the package, and {spec} brings none: write"
                f" {architecture}:TAG, or {LOCAL_DIR}:FOLDER with open_clip_config.json, weights"
                f" and the tokenizer {tokenizer} in the folder."
            )
        return ClipSpec(architecture=architecture, weights=weights)
    tag = _clean_tag(weights)
    if tag == "openai" and architecture + _QUICKGELU in clip_architectures():
        architecture += _QUICKGELU
    return ClipSpec(architecture=architecture, weights=tag)


def _is_folder(spec: str) -> bool:
    """Whether a spec is the path of a folder: it begins as paths do, or has parts and no colon."""
    begins = spec.startswith(("/", "./", "../", "~"))
    return begins or (":" not in spec and len(Path(spec).parts) > 1)


def _in_one_place(kind: str, place: str) -> ClipSpec:
    """A folder or a repository, which holds a whole model."""
    if kind == LOCAL_DIR and not place:
        raise WeightsError(f"{LOCAL_DIR}: names no folder; write {LOCAL_DIR}:FOLDER.")
    if kind == HF_HUB and not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", place, re.ASCII):
        raise WeightsError(
            f"{kind}:{place} names no repository; write {HF_HUB}:OWNER/NAME, such as"
            f" {HF_HUB}:timm/ViT-B-16-SigLIP2."
        )
    return ClipSpec(architecture=kind, weights=place)


def parse_selfmask(spec: str) -> SelfMaskSpec:
    """Parse `nq20`, `nq10`, `demo`, `random:SEED` or a file's path, without looking for a file.

    Raises:
        WeightsError: none of these.
    """
    shipped = [name for name, weights in SHIPPED.items() if weights.model == "SelfMask"]
    if spec in SELFMASK or spec in shipped or seed_of(spec) is not None or is_path(spec):
        return SelfMaskSpec(weights=spec)
    raise WeightsError(
        f"There are no SelfMask weights {spec!r}; write {', '.join((*SELFMASK, *shipped))},"
        f" random:SEED, or the path of a {', '.join(WEIGHTS_SUFFIXES)} file."
    )


def well_known() -> tuple[str, ...]:
    """The published weights that are listed by name: SelfMask's, ZUTIS's and the usual CLIPs and
    SigLIPs."""
    return (*SELFMASK, *ZUTIS, DEFAULT_CLIP, *RECOMMENDED_CLIP, *SIGLIP)


def named(name: str) -> PublishedWeights | None:
    """SelfMask's or ZUTIS's published weights of that name; None if there are none."""
    return SELFMASK.get(name) or ZUTIS.get(name)


def published(name: str) -> PublishedWeights:
    """Look a published name up: `nq20`, `coco_vit_b_16` or `ARCH:TAG`. May import open_clip.

    Raises:
        WeightsError: there are no such published weights, or they are shipped.
    """
    if name in SHIPPED:
        raise WeightsError(f"The weights {name} are part of zutis and need no download.")
    weights = named(name)
    if weights is not None:
        return weights
    if ":" not in name:
        known = ", ".join(well_known())
        raise WeightsError(
            f"There are no published weights {name!r}; known are {known}, and any ARCH:TAG of"
            f" open_clip."
        )
    spec = parse_clip(name)
    if seed_of(spec.weights) is not None or is_path(spec.weights):
        raise WeightsError(f"{name} is not a published name; give ARCH:TAG.")
    return published_clip(spec.architecture, spec.weights)


def seed_of(weights: str) -> int | None:
    """The seed of `random:SEED`; None for anything else.

    Raises:
        WeightsError: the seed is no whole number from 0 to 2**63 - 1.
    """
    head, colon, seed = weights.partition(":")
    if head != "random":
        return None
    if not colon or not re.fullmatch("[0-9]{1,19}", seed) or int(seed) >= 1 << 63:
        raise WeightsError(
            f"{weights!r} has no usable seed; write random:SEED with a whole number from 0, such"
            f" as random:0."
        )
    return int(seed)


def is_path(weights: str) -> bool:
    """Whether this is the path of a file: it has a folder, or the suffix of a file of weights."""
    path = Path(weights)
    return len(path.parts) > 1 or path.suffix.lower() in WEIGHTS_SUFFIXES


def _clean_tag(tag: str) -> str:
    return tag.lower().replace("-", "_")


def _check_architecture(architecture: str) -> None:
    known = {name.casefold(): name for name in sorted(clip_architectures())}
    if architecture in known.values():
        if tower := hub_text_tower(architecture_config(architecture)):
            raise WeightsError(
                f"{architecture} can't be used: its text tower is {tower}, which open_clip can only"
                " build with a download; ViT-B-16-SigLIP2:webli reads many languages, too."
            )
        return
    near = difflib.get_close_matches(architecture.casefold(), list(known), cutoff=0.6)
    if near:
        advice = f"the nearest are {', '.join(known[match] for match in near)}"
    else:
        usual = ", ".join(name.partition(":")[0] for name in RECOMMENDED_CLIP)
        advice = f"it knows {len(known)}, of which {usual} are the usual ones"
    raise WeightsError(f"open_clip knows no CLIP architecture {architecture!r}; {advice}.")
