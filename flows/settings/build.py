"""The settings of a build."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Literal, Self

from pydantic import model_validator

from flows.settings.devices import choose_device
from flows.settings.options import Group
from flows.settings.shared import CorpusOptions, DeviceOptions, StoreOptions
from flows.settings.value_types import (
    AtLeastOne,
    IndexClipName,
    KeptShare,
    Margin,
    MaskSize,
    NotNegative,
    PerCategory,
    Positive,
    SelfMaskName,
    Share,
    Texts,
    VocabularyName,
    auto_bounds,
)
from storage.access.credentials import refuse_secrets
from storage.errors.exceptions import ConfigError
from storage.files.filesystems import display
from storage.weights import registry
from storage.weights.registry import parse_selfmask
from storage.weights.resolving import ResolvedWeights, resolve
from tasks.stage.models import GIVEN_MASKS, ModelConfig, resolve_clip

if TYPE_CHECKING:
    from storage.given_masks.source import GivenMasks

DEFAULT_CLIP: Final = registry.DEFAULT_CLIP
DEFAULT_TRAINING_CLIP: Final = "ViT-B-16-quickgelu:openai"
DEFAULT_SELFMASK = "nq20"

KEEP_BUILDS = 3
"""The latest builds of every vocabulary that `zutis artifacts gc` keeps."""


class BuildSettings(CorpusOptions, DeviceOptions, StoreOptions):
    """A build: from a corpus and a vocabulary to shards of pseudo-labels."""

    subject: ClassVar[str] = "build"

    vocabulary: Annotated[VocabularyName, Group.MAIN]
    """Name or path of a vocabulary."""
    per_category: Annotated[PerCategory, Group.MAIN] = 500
    """Images retrieved a category: a number; auto, as many as stand out from the corpus; or auto
    with bounds, such as auto:20-500."""
    clip: Annotated[IndexClipName, Group.MAIN] = DEFAULT_CLIP
    """CLIP or SigLIP that indexes and retrieves: ARCHITECTURE:WEIGHTS, the weights a tag, a file or
    random:SEED; hf-hub:OWNER/NAME; or a folder that open_clip has saved."""
    selfmask: Annotated[SelfMaskName, Group.MAIN] = DEFAULT_SELFMASK
    """SelfMask's weights: nq20, nq10, a file or random:SEED."""

    embeddings: Annotated[str, Group.CORPUS] = ""
    """Embeddings of the corpus's images by --clip that are there already: a folder that
    clip-retrieval wrote, or ZUTIS's pickles; images that they don't name are embedded."""
    unusual_images: Annotated[Literal["convert", "reject"], Group.CORPUS] = "convert"
    """What becomes of CMYK, 16-bit, palette, animated and alpha images."""
    bit_depth: Annotated[NotNegative, Group.CORPUS] = 0
    """Bits in use in 16-bit images, 8 to 16; 0: as each image uses."""

    overlap: Annotated[Literal["best", "all", "last"], Group.RETRIEVAL] = "best"
    """Who keeps an image that several categories retrieve."""
    min_score: Annotated[Share, Group.RETRIEVAL] = 0.0
    """Least cosine of an image with its category; what is below 0 never counts."""
    min_probability: Annotated[Share, Group.RETRIEVAL] = 0.0
    """Least probability of the category: CLIP's over the vocabulary, SigLIP's of the category
    alone."""
    min_margin: Annotated[Margin, Group.RETRIEVAL] = -1.0
    """Least lead over the next category's probability."""
    thin: Annotated[Literal["keep", "drop", "stop"], Group.RETRIEVAL] = "keep"
    """What becomes of categories that fewer than 10 images are estimated to show: they are kept
    and named, get no label, or stop the build."""
    crops: Annotated[Literal["central", "many"], Group.RETRIEVAL] = "central"
    """What CLIP sees of images beyond 1.5 : 1: their central square, or many squares along them, of
    which the best counts."""
    index: Annotated[str, Group.RETRIEVAL] = "exact"
    """exact, or a FAISS factory string."""
    index_search: Annotated[str, Group.RETRIEVAL] = ""
    """FAISS search parameters of an approximate index, such as nprobe=16."""

    mask_size: Annotated[MaskSize, Group.MASKS] = 512
    """Shorter side that SelfMask sees, pixels."""
    refine_input: Annotated[Literal["original", "reference"], Group.MASKS] = "original"
    """Image whose edges masks are snapped to; reference: as the authors scale it."""
    masks: Annotated[str, Group.MASKS] = ""
    """Masks that are there already, in place of SelfMask's: COCO's JSON, CVAT's XML, Label
    Studio's JSON, or a folder of PNGs named as the images; images without one get no label."""
    objects: Annotated[Literal["one", "many"], Group.MASKS] = "one"
    """Objects that an image has a label of: the most salient one, of the category that retrieved
    it; or many, each of the category that CLIP sees in it."""

    quality: Annotated[bool, Group.QUALITY] = False
    """Estimate how good every label is, and write it into the samples; implied by the options that
    use it."""
    min_quality: Annotated[Share, Group.QUALITY] = 0.0
    """Least quality of a label that is kept: its estimated IoU."""
    keep: Annotated[KeptShare, Group.QUALITY] = 1.0
    """Share of each category's labels that is kept, the best, such as 80%."""
    quality_clip: Annotated[str, Group.QUALITY] = ""
    """CLIP with patch tokens that looks at masks, for their quality and the names of many objects;
    empty: a given --clip, or the one that train uses."""

    decisions: Annotated[str, Group.DECISIONS] = ""
    """File of decisions about labels (.jsonl): rejected labels are left out, others take the
    category or the mask that they were given."""

    duplicates: Annotated[Literal["keep", "drop"], Group.ALIKE] = "keep"
    """What becomes of images that show the same as another of their category; drop: the best one
    is kept, by quality if that is estimated, else by rank."""
    duplicate_groups: Annotated[str, Group.ALIKE] = ""
    """Table of images and their groups (.parquet, .csv, .tsv, .jsonl), in place of looking for
    near-duplicates; implies --duplicates drop."""
    keep_out: Annotated[Texts, Group.ALIKE] = ()
    """Evaluation set whose images are left out, as they are and nearly as they are: anything that
    --corpus takes; may be repeated."""

    name: Annotated[str, Group.SHARDS] = ""
    """What the shards are called; empty: as the vocabulary."""
    shard_mb: Annotated[Positive, Group.SHARDS] = 256.0
    """Megabytes a shard, about."""
    absolute_paths: Annotated[bool, Group.SHARDS] = False
    """Samples name local files by full paths, not from the corpus's folders on."""

    workers: Annotated[AtLeastOne, Group.MACHINE] = 1
    """Parts that are worked on at a time; a Ray cluster takes as many as it has room for."""
    runner: Annotated[Literal["threads", "ray"], Group.MACHINE] = "threads"
    """What runs the parts: threads of this process, or a Ray cluster."""
    ray_address: Annotated[str, Group.MACHINE] = "auto"
    """Address of the Ray cluster: auto, HOST:PORT or ray://HOST:PORT."""

    part_images: Annotated[NotNegative, Group.ADVANCED] = 0
    """Images of an embedding part, about; 0 chooses."""
    mask_part_images: Annotated[NotNegative, Group.ADVANCED] = 0
    """Images of a mask part; 0 chooses."""
    repair: Annotated[bool, Group.ADVANCED] = False
    """Check every byte of the store and rebuild what is damaged."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for address in (
            *self.corpus,
            *self.keep_out,
            self.duplicate_groups,
            self.decisions,
            self.embeddings,
            self.masks,
            self.store,
        ):
            refuse_secrets(address)
        check_name(self.name)
        return self

    @property
    def judges_labels(self) -> bool:
        """Whether the quality of labels is estimated."""
        return self.quality or self.min_quality > 0 or self.keep < 1

    @property
    def drops_duplicates(self) -> bool:
        """Whether a category has one image of each group of near-duplicates."""
        return self.duplicates == "drop" or self.duplicate_groups != ""

    @property
    def looks_at_masks(self) -> bool:
        """Whether CLIP looks at masks."""
        return self.judges_labels or self.objects == "many"

    @property
    def most_per_category(self) -> int:
        """Images retrieved a category at most."""
        bounds = auto_bounds(self.per_category)
        return bounds[1] if bounds else int(self.per_category)

    @property
    def least_per_category(self) -> int | None:
        """With `--per-category auto`, images retrieved a category at least; None of a number."""
        bounds = auto_bounds(self.per_category)
        return bounds[0] if bounds else None

    @property
    def goes_by_evidence(self) -> bool:
        """Whether the evidence decides which images are retrieved."""
        return self.least_per_category is not None or self.thin == "drop"

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


def quality_clip_model(settings: BuildSettings) -> ModelConfig:
    """Resolve `--quality-clip`; raises as `clip_model`."""
    given = settings.clip if settings.clip != DEFAULT_CLIP else DEFAULT_TRAINING_CLIP
    return clip_model(settings.quality_clip or given, settings.device, settings.precision)


def given_masks_model(masks: GivenMasks) -> ModelConfig:
    """What stands in SelfMask's place where a user has masks: nothing that can be loaded."""
    label = f"masks of {display(masks.place)}"
    weights = ResolvedWeights(
        kind="file", seed=None, path=None, digest=masks.digest, untrained=False, label=label
    )
    return ModelConfig(architecture=GIVEN_MASKS, weights=weights)


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


def check_name(name: str) -> None:
    """Check what shards are to be called; empty is not given.

    Raises:
        ConfigError: it can't be part of a file's name.
    """
    if name and name != file_name_of(name):
        raise ConfigError(
            f"name is {name!r}: shards are named after it, so use letters, digits, - and _ only."
        )
