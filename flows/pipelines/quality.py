"""The wiring of what looks at masks: regions, names of objects, quality of labels, choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flows.execution.executors import Executor
from flows.pipelines.duplicates import Compared
from flows.pipelines.embedding import parts_of
from flows.pipelines.retrieval import texts_of
from flows.settings.build import BuildSettings, quality_clip_model
from flows.settings.options import values_for
from storage.artifacts.store import Artifact, ArtifactRef
from storage.images.records import read_parquet
from storage.vocabularies.vocabulary import Vocabulary
from tasks.masking import make_masks
from tasks.naming import name_objects
from tasks.quality import choose_labels, damage_labels, embed_regions, plan_regions, score_labels
from tasks.retrieval import embed_text
from tasks.retrieval.text_rows import TextRow
from tasks.stage.coverage import covered_items
from tasks.stage.layout import REGIONS, RETRIEVED_IMAGES
from tasks.stage.models import ModelConfig, require_patch_tokens

# Images a forward pass; as for masks.
_BATCH = {"float32": 1, "bfloat16": 16}


@dataclass(frozen=True)
class MadeMasks:
    """Artifacts with masks of retrieved images, all of one recipe; and the SelfMask that looks at
    them a second time, where anything does."""

    config: make_masks.Config
    refs: tuple[ArtifactRef, ...]
    selfmask: ModelConfig


@dataclass(frozen=True)
class Measured:
    """The regions of a build's masks.

    Attributes:
        clip: that looked at them.
        texts: the categories' by that CLIP, in their order.
        regions: artifacts of `embed_regions`; masks: of `make_masks`.
        named: of `name_objects`, with several objects an image.
    """

    clip: ModelConfig
    texts: tuple[TextRow, ...]
    regions: tuple[ArtifactRef, ...]
    masks: tuple[ArtifactRef, ...]
    selfmask: ModelConfig
    named: Artifact | None

    @property
    def inputs(self) -> tuple[ArtifactRef, ...]:
        """All artifacts but masks."""
        texts = dict.fromkeys(text.artifact for text in self.texts)
        return (*texts, *self.regions, *((self.named.ref,) if self.named else ()))


@dataclass(frozen=True)
class Judged:
    """The results of judging labels.

    Attributes:
        scored, chosen: artifacts of `score_labels` and `choose_labels`.
        inputs: the first, and what it is made from, retrieval, masks and regions apart.
    """

    scored: Artifact
    chosen: Artifact
    inputs: tuple[ArtifactRef, ...]


def check_quality(settings: BuildSettings) -> ModelConfig | None:
    """The CLIP that looks at regions; None where nothing does.

    Raises:
        WeightsError: its weights are missing, or it has no patch tokens.
        ConfigError: a setting of the choice can't be.
    """
    if not settings.looks_at_masks:
        return None
    choose_labels.Config(**values_for(choose_labels.Config, settings))
    clip = quality_clip_model(settings)
    require_patch_tokens(
        clip, "the quality of labels" if settings.judges_labels else "--objects many"
    )
    return clip


def measure_masks(
    settings: BuildSettings,
    clip: ModelConfig,
    vocabulary: Vocabulary,
    retrieval: Artifact,
    masks: Sequence[MadeMasks],
    executor: Executor,
) -> Measured:
    """Measure the masks' regions and, with several objects an image, name them.

    Args:
        clip: looks at regions.
        masks: of the retrieval's images.
    """
    categories = texts_of(embed_text.Config(clip=clip), vocabulary, executor)
    texts = tuple(each.searched for each in categories)
    regions = _regions(settings, clip, retrieval, masks, executor)
    refs = tuple(ref for made in masks for ref in made.refs)
    named = None
    if settings.objects == "many":
        names = tuple(each.name for each in categories)
        named = executor.one(
            name_objects.NAME,
            name_objects.Config(),
            name_objects.Inputs(retrieval.ref, refs, regions, names, texts),
        )
    return Measured(clip, texts, regions, refs, masks[0].selfmask, named)


def judge_labels(
    settings: BuildSettings,
    retrieval: Artifact,
    measured: Measured,
    compared: Compared,
    executor: Executor,
    decided: ArtifactRef | None = None,
) -> Judged:
    """Estimate every label's quality, and choose.

    Args:
        measured: masks of the retrieval's images; compared: these images.
        decided: of `import_decisions`.
    """
    named = measured.named.ref if measured.named else None
    damaged = executor.one(
        damage_labels.NAME,
        damage_labels.Config(
            clip=measured.clip,
            selfmask=measured.selfmask,
            mask_size=settings.mask_size,
            bit_depth=settings.bit_depth,
        ),
        damage_labels.Inputs(
            retrieval.ref, measured.masks, measured.regions, measured.texts, named
        ),
    )
    scored = executor.one(
        score_labels.NAME,
        score_labels.Config(),
        score_labels.Inputs(retrieval.ref, measured.regions, damaged.ref, measured.texts, named),
    )
    chosen = executor.one(
        choose_labels.NAME,
        choose_labels.Config(**values_for(choose_labels.Config, settings)),
        choose_labels.Inputs(
            scored.ref, duplicates=compared.duplicates, leaks=compared.leaks, decided=decided
        ),
    )
    return Judged(scored, chosen, (damaged.ref, scored.ref))


def _regions(
    settings: BuildSettings,
    clip: ModelConfig,
    retrieval: Artifact,
    masks: Sequence[MadeMasks],
    executor: Executor,
) -> tuple[ArtifactRef, ...]:
    """The artifacts with the regions of all masks, after measuring those that are not there."""
    with retrieval.open(RETRIEVED_IMAGES) as file:
        wanted = read_parquet(file, columns=["image_id"])["image_id"].to_pylist()
    keys: set[str] = set()
    for made in masks:
        config = embed_regions.Config(
            clip=clip,
            selfmask=made.selfmask,
            masks_prefix=made.config.recipe.prefix,
            batch_size=_BATCH[clip.precision],
            bit_depth=made.config.bit_depth,
        )
        prefix = config.recipe.prefix
        plan = executor.look(
            plan_regions.NAME,
            plan_regions.Config(regions_prefix=prefix, part_images=settings.mask_part_images),
            plan_regions.Inputs(retrieval.ref, made.refs),
        )
        if plan is not None:
            executor.many(embed_regions.NAME, config, *parts_of([plan]))
        owners = covered_items(
            executor.store, embed_regions.NAME, prefix, file=REGIONS, column="image_id"
        )
        keys |= {owners[image_id] for image_id in wanted if image_id in owners}
    return tuple(ArtifactRef(embed_regions.NAME, key) for key in sorted(keys))
