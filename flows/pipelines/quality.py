"""The wiring of a build's quality: regions, damaged labels, scores, choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flows.execution.executors import Executor
from flows.pipelines.duplicates import Compared
from flows.pipelines.retrieval import texts_of
from flows.settings.build import BuildSettings, quality_clip_model
from flows.settings.options import values_for
from storage.artifacts.store import Artifact, ArtifactRef
from storage.images.records import read_parquet
from storage.vocabularies.vocabulary import Vocabulary
from tasks.masking import make_masks
from tasks.quality import choose_labels, damage_labels, embed_regions, plan_regions, score_labels
from tasks.retrieval import embed_text
from tasks.stage.contract import PartOfPlan, plan_parts
from tasks.stage.coverage import covered_items
from tasks.stage.layout import REGIONS, RETRIEVED_IMAGES
from tasks.stage.models import ModelConfig, require_patch_tokens

# Images a forward pass; as for masks.
_BATCH = {"float32": 1, "bfloat16": 16}


@dataclass(frozen=True)
class MadeMasks:
    """Artifacts with masks of retrieved images, all of one recipe."""

    config: make_masks.Config
    refs: tuple[ArtifactRef, ...]


@dataclass(frozen=True)
class Judged:
    """The results of judging labels.

    Attributes:
        scored, chosen: artifacts of `score_labels` and `choose_labels`.
        inputs: the first, and what it is made from, retrieval and masks apart.
    """

    scored: Artifact
    chosen: Artifact
    inputs: tuple[ArtifactRef, ...]


def check_quality(settings: BuildSettings) -> ModelConfig | None:
    """The CLIP that looks at regions; None where labels are not judged.

    Raises:
        WeightsError: its weights are missing, or it has no patch tokens.
        ConfigError: a setting of the choice can't be.
    """
    if not settings.judges_labels:
        return None
    choose_labels.Config(**values_for(choose_labels.Config, settings))
    clip = quality_clip_model(settings)
    require_patch_tokens(clip, "the quality of labels")
    return clip


def judge_labels(
    settings: BuildSettings,
    clip: ModelConfig,
    vocabulary: Vocabulary,
    retrieval: Artifact,
    masks: Sequence[MadeMasks],
    compared: Compared,
    executor: Executor,
) -> Judged:
    """Measure the masks' regions, estimate every label's quality, and choose.

    Args:
        clip: looks at regions.
        masks: of the retrieval's images; compared: likewise.
    """
    categories = texts_of(embed_text.Config(clip=clip), vocabulary, executor)
    texts = tuple(each.searched for each in categories)
    regions = _regions(settings, clip, retrieval, masks, executor)
    selfmask = masks[0].config.selfmask
    refs = tuple(ref for made in masks for ref in made.refs)
    damaged = executor.one(
        damage_labels.NAME,
        damage_labels.Config(clip=clip, selfmask=selfmask, bit_depth=settings.bit_depth),
        damage_labels.Inputs(retrieval.ref, refs, regions, texts),
    )
    scored = executor.one(
        score_labels.NAME,
        score_labels.Config(),
        score_labels.Inputs(retrieval.ref, regions, damaged.ref, texts),
    )
    chosen = executor.one(
        choose_labels.NAME,
        choose_labels.Config(**values_for(choose_labels.Config, settings)),
        choose_labels.Inputs(scored.ref, duplicates=compared.duplicates, leaks=compared.leaks),
    )
    used = (*dict.fromkeys(text.artifact for text in texts), *regions, damaged.ref)
    return Judged(scored, chosen, (*used, scored.ref))


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
            selfmask=made.config.selfmask,
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
            parts = plan_parts(plan)
            executor.many(
                embed_regions.NAME,
                config,
                [PartOfPlan(plan.ref, number) for number in range(len(parts))],
                [part["items"] for part in parts],
            )
        owners = covered_items(
            executor.store, embed_regions.NAME, prefix, file=REGIONS, column="image_id"
        )
        keys |= {owners[image_id] for image_id in wanted if image_id in owners}
    return tuple(ArtifactRef(embed_regions.NAME, key) for key in sorted(keys))
