"""The settings of a build: the command's options and the flow's parameters, under one name each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

from flows.settings.devices import choose_device
from storage.access.credentials import refuse_secrets
from storage.errors.exceptions import ConfigError
from storage.errors.numbers import check_numbers
from storage.files.json_files import is_text
from storage.weights import registry
from storage.weights.registry import parse_selfmask
from storage.weights.resolving import resolve
from tasks.stage.models import ModelConfig, resolve_clip

DEFAULT_STORE = "zutis-store"
DEFAULT_CLIP: Final = registry.DEFAULT_CLIP
DEFAULT_TRAINING_CLIP: Final = "ViT-B-16-quickgelu:openai"
DEFAULT_SELFMASK = "nq20"

KEEP_BUILDS = 3
"""The latest builds of every vocabulary that `zutis artifacts gc` keeps."""


@dataclass(frozen=True, kw_only=True)
class BuildSettings:
    """What `zutis build` takes. Every stage checks its own part of it.

    Attributes:
        corpus: folders, images, tars, tables, lists, COCO JSON files; paths, URIs or patterns.
        vocabulary: name or path of a vocabulary.
        include, exclude: patterns of names, relative to the corpus; see `Selection`.
        uri_column: of tables, the column that says where the images are; empty: a usual one.
        per_category: images retrieved a category.
        clip: ARCHITECTURE:WEIGHTS, weights a tag, a file, or random:SEED; hf-hub:OWNER/NAME; or
            the folder of a model that open_clip has saved.
        selfmask: nq20, nq10, a file, or random:SEED.
        mask_size: pixels of the shorter side that SelfMask sees.
        refine_input: original or reference; the picture whose edges masks are snapped to.
        overlap: best, all or last; who keeps an image that several categories retrieve.
        min_score: least cosine of an image with a category, 0..1; what is below 0 never counts.
        min_probability: least probability of the category, 0..1: a CLIP's over the vocabulary, a
            SigLIP's of the category by itself.
        min_margin: least lead of that probability over the next category's, -1..1.
        index: exact, or a FAISS factory string.
        index_search: FAISS search parameters of an approximate index.
        unusual_images: convert or reject CMYK, 16-bit, palette, animated and alpha pictures.
        crops: what CLIP sees of images beyond 1.5 : 1: the `central` square, or `many` along them.
        bit_depth: bits in use in pictures of more than 8 bits a channel; 0: as each of them uses.
        shard_mb: megabytes a shard, about.
        part_images: images an embedding part, about; 0 chooses.
        mask_part_images: images a mask part; 0 chooses.
        absolute_paths: samples name their files by full URIs, not from the corpus's folders on.
        name: what the shards are called; empty takes the vocabulary's name.
        device: auto, cpu, cuda or cuda:N.
        precision: auto (bfloat16 on a GPU, float32 elsewhere), float32 or bfloat16.
        workers: parts that are worked on at a time; a Ray cluster takes as many as it has room for.
        runner: threads of this process, or ray.
        ray_address: of the Ray cluster: auto, HOST:PORT or ray://HOST:PORT.
        repair: look at every byte of the store, and rebuild what is damaged.
        store: folder or URI of the artifacts.
    """

    corpus: tuple[str, ...]
    vocabulary: str
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    uri_column: str = ""
    per_category: int = 500
    clip: str = DEFAULT_CLIP
    selfmask: str = DEFAULT_SELFMASK
    mask_size: int = 512
    refine_input: str = "original"
    overlap: str = "best"
    min_score: float = 0.0
    min_probability: float = 0.0
    min_margin: float = -1.0
    index: str = "exact"
    index_search: str = ""
    unusual_images: str = "convert"
    crops: str = "central"
    bit_depth: int = 0
    shard_mb: float = 256.0
    part_images: int = 0
    mask_part_images: int = 0
    absolute_paths: bool = False
    name: str = ""
    device: str = "auto"
    precision: str = "auto"
    workers: int = 1
    runner: str = "threads"
    ray_address: str = "auto"
    repair: bool = False
    store: str = DEFAULT_STORE

    def __post_init__(self) -> None:
        check_numbers(self)
        self._check_texts()
        if not self.corpus:
            raise ConfigError("No corpus is given: name one with --corpus DIR.")
        for address in (*self.corpus, self.store):
            refuse_secrets(address)
        if self.workers < 1:
            raise ConfigError(f"workers is {self.workers}: use at least 1.")
        if self.runner not in ("threads", "ray"):
            raise ConfigError(f"runner is {self.runner!r}: choose threads or ray.")
        if self.name and not _is_file_name(self.name):
            raise ConfigError(
                f"name is {self.name!r}: shards are named after it, so use letters, digits, "
                "- and _ only."
            )

    def _check_texts(self) -> None:
        """Manifests, Prefect and its database hold UTF-8 alone."""
        for each in fields(self):
            value = getattr(self, each.name)
            texts = value if isinstance(value, tuple) else (value,)
            wrong = [text for text in texts if isinstance(text, str) and not is_text(text)]
            if wrong:
                raise ConfigError(
                    f"{each.name} is {wrong[0]!r}, whose bytes are no UTF-8: give another name; for"
                    " a file or folder, a link will do."
                )

    @property
    def cluster(self) -> str:
        """Address of the Ray cluster that runs the parts; empty for threads of this process."""
        return self.ray_address if self.runner == "ray" else ""


def clip_model(clip: str, device: str, precision: str) -> ModelConfig:
    """Resolve `--clip`.

    Raises:
        WeightsError: if the model is unknown or its weights are not there.
    """
    device, precision = _placement(device, precision)
    return resolve_clip(clip, device=device, precision=precision)


def selfmask_model(selfmask: str, device: str, precision: str) -> ModelConfig:
    """Resolve `--selfmask`; raises as `clip_model`."""
    weights = resolve(parse_selfmask(selfmask))
    device, precision = _placement(device, precision)
    return ModelConfig(architecture="selfmask", weights=weights, device=device, precision=precision)


def _placement(device: str, precision: str) -> tuple[str, str]:
    """The device to use, and the precision that it is used with."""
    chosen = choose_device(device)
    if precision == "auto":
        precision = "float32" if chosen == "cpu" else "bfloat16"
    return chosen, precision


def file_name_of(vocabulary_name: str) -> str:
    """A vocabulary's name as shards can carry it."""
    name = "".join(
        c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in vocabulary_name
    )
    return name.strip("-") or "vocabulary"


def weights_labels(models: Sequence[ModelConfig]) -> str:
    """For people: which weights, and which of them are untrained."""
    return ", ".join(model.weights.label for model in models)


def identity(model: ModelConfig) -> str:
    """A model's name that says what it is and not where it lies: architecture and digest."""
    digest = model.weights.digest
    return f"{model.architecture}:{digest if model.weights.untrained else digest[:16]}"


def _is_file_name(name: str) -> bool:
    return name == file_name_of(name)
