"""The wiring of a build: which stage reads which artifacts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

from flows.execution.executors import Executor
from flows.pipelines import early_checks
from flows.pipelines.decisions import Decided, check_decisions, find_decided
from flows.pipelines.duplicates import (
    check_comparisons,
    choose_unjudged,
    compare_images,
    index_sets,
    scan_sets,
)
from flows.pipelines.embedding import embed_parts, embedding_config, parts_of, with_given
from flows.pipelines.quality import (
    Judged,
    MadeMasks,
    check_quality,
    judge_labels,
    measure_masks,
)
from flows.pipelines.recorded import as_given
from flows.pipelines.retrieval import CategoryRows, Retrieved, retrieve_images, texts_of
from flows.settings.build import (
    BuildSettings,
    clip_model,
    file_name_of,
    given_masks_model,
    identity,
    selfmask_model,
    weights_labels,
)
from flows.settings.options import values_for
from storage.artifacts.store import Artifact, ArtifactRef
from storage.corpora.corpus import Source, check_uri_column, open_sources
from storage.corpora.selection import Selection
from storage.errors.reject_reasons import SIXTEEN_BIT
from storage.files.filesystems import is_local, parent_uri
from storage.given_embeddings.source import open_given
from storage.given_masks.source import GivenMasks, open_given_masks
from storage.images.bit_depth import check_bit_depth
from storage.images.records import read_parquet
from storage.vocabularies.vocabulary import Vocabulary, load_vocabulary
from tasks.indexing import build_index, embed_crops, embed_images, scan
from tasks.masking import import_masks, make_masks, plan_masks
from tasks.packing import assemble_dataset, pack_shards, plan_shards, record_build
from tasks.retrieval import embed_text, retrieve, search_index
from tasks.stage.coverage import covered_items
from tasks.stage.layout import MASKS, RETRIEVED_IMAGES
from tasks.stage.models import ModelConfig

# Images a forward pass. Larger batches are no faster on a CPU, but fill a GPU in bfloat16.
_MASK_BATCH = {"float32": 1, "bfloat16": 8}


@dataclass(frozen=True)
class Build:
    """The results of a build.

    Attributes:
        plans: the sources' plans; embedded: their embedding parts.
        index, evidence, retrieval, shard_plan, dataset, record: artifacts of the stages of these
            names.
        judged: quality of labels; None where they are not judged.
        chosen: of `choose_labels`; None where all labels are kept.
        decided: what people decided about labels; None without `--decisions`.
        models: CLIP and SelfMask.
    """

    plans: list[Artifact]
    embedded: list[Artifact]
    index: Artifact
    evidence: Artifact
    retrieval: Artifact
    judged: Judged | None
    chosen: Artifact | None
    shard_plan: Artifact
    dataset: Artifact
    record: Artifact
    models: tuple[ModelConfig, ModelConfig]
    decided: Decided | None = None

    @property
    def untrained(self) -> bool:
        return any(model.weights.untrained for model in self.models)


def build(settings: BuildSettings, executor: Executor) -> Build:
    """Run or find every stage of a build, in order.

    Raises:
        ZutisError: one sentence, for the user.
        NotCached: from an executor that runs nothing.
    """
    vocabulary = load_vocabulary(settings.vocabulary)
    early_checks.check_prompts(vocabulary)
    clip = clip_model(settings.clip, settings.device, settings.precision)
    given_masks = open_given_masks(settings.masks) if settings.masks else None
    selfmask, second_look = _mask_models(settings, given_masks)
    configs = _check_settings(settings, clip, selfmask)
    region_clip = check_quality(settings)
    sources = open_sources(settings.corpus, uri_column=settings.uri_column)
    check_uri_column(settings.uri_column, sources)
    comparisons = check_comparisons(settings, sources)
    decisions = check_decisions(settings)
    given = open_given(settings.embeddings) if settings.embeddings else None
    if given:
        given.check_model(clip.architecture)
    configs = replace(
        configs, plan_shards=replace(configs.plan_shards, roots=_roots(settings, sources))
    )

    plans = _scan(settings, sources, executor)
    set_plans = scan_sets(comparisons.keep_out, settings.part_images, executor)
    categories = texts_of(configs.embed_text, vocabulary, executor)
    _check_before_reading(settings, configs, categories, plans, executor)
    embed_set = configs.embed_images  # names of given embeddings are of the corpus's images
    embed_corpus, imported = with_given(embed_set, given, executor)
    configs = replace(configs, embed_images=embed_corpus)
    embedded, beside, index = _index(settings, configs, plans, executor)
    sets = index_sets(comparisons.keep_out, set_plans, embed_set, settings.bit_depth, executor)
    retrieved = retrieve_images(
        configs.retrieve,
        configs.search,
        categories,
        index,
        executor,
        by_evidence=settings.goes_by_evidence,
        thin=settings.thin,
    )
    retrieval = retrieved.retrieval
    compared = compare_images(comparisons, sets, index, retrieval, clip.device, executor)
    made = _mask(settings, configs, second_look, retrieval, executor)
    masks = tuple(ref for each in made for ref in each.refs)
    measured = None
    if region_clip:
        measured = measure_masks(settings, region_clip, vocabulary, retrieval, made, executor)
    named = measured.named if measured else None
    decided = find_decided(decisions, vocabulary, retrieval, masks, named, executor)
    ruled = decided.ref if decided else None
    judged = None
    if measured and settings.judges_labels:
        judged = judge_labels(settings, retrieval, measured, compared, executor, ruled)
    chosen = (
        judged.chosen
        if judged
        else choose_unjudged(compared, retrieval, masks, executor, named, ruled)
    )
    shard_plan, shards, dataset = _pack(
        settings, configs, vocabulary, retrieved, masks, named, chosen, ruled, executor
    )

    others = (
        *(a.ref for a in plans),
        *(a.ref for a in embedded),
        *beside,
        *imported,
        *retrieved.inputs,
        *masks,
        *shards,
    )
    record = executor.one(
        record_build.NAME,
        record_build.Config(
            vocabulary=vocabulary.name,
            clip=identity(clip),
            selfmask=identity(selfmask),
            notes={
                "weights": weights_labels([clip, selfmask]),
                "clip": settings.clip,
                "corpus": list(settings.corpus),
                **as_given(settings),
            },
        ),
        record_build.Inputs(
            index=index.ref,
            retrieval=retrieval.ref,
            shard_plan=shard_plan.ref,
            dataset=dataset.ref,
            others=others,
            beside=(
                retrieved.evidence.ref,
                *compared.inputs,
                *(measured.inputs if measured else ()),
                *(judged.inputs if judged else ()),
                *((chosen.ref,) if chosen else ()),
                *((ruled,) if ruled else ()),
            ),
        ),
    )
    models = (clip, selfmask)
    return Build(
        plans, embedded, index, retrieved.evidence, retrieval, judged, chosen, shard_plan, dataset,
        record, models, decided,
    )  # fmt: skip


def _mask_models(
    settings: BuildSettings, given: GivenMasks | None
) -> tuple[ModelConfig, ModelConfig]:
    """What makes the masks, and the SelfMask that looks at them a second time; where nothing looks,
    given masks need no SelfMask.

    Raises:
        WeightsError: its weights are missing.
    """
    if given and not settings.looks_at_masks:
        return (given_masks_model(given),) * 2
    selfmask = selfmask_model(settings.selfmask, settings.device, settings.precision)
    return given_masks_model(given) if given else selfmask, selfmask


@dataclass(frozen=True)
class _Configs:
    """The stages' configurations, made first so that a bad setting stops before any work."""

    embed_images: embed_images.Config
    embed_text: embed_text.Config
    search: search_index.Config
    index: build_index.Config
    retrieve: retrieve.Config
    masks: make_masks.Config
    plan_shards: plan_shards.Config

    @property
    def models(self) -> tuple[ModelConfig, ModelConfig]:
        return self.embed_images.clip, self.masks.selfmask


def _check_settings(settings: BuildSettings, clip: ModelConfig, selfmask: ModelConfig) -> _Configs:
    check_bit_depth(settings.bit_depth)
    scan.Config(source="", part_images=settings.part_images)
    Selection.of(settings.include, settings.exclude)
    plan_masks.Config(masks_prefix="", part_images=settings.mask_part_images)
    text_config = embed_text.Config(clip=clip)
    return _Configs(
        embed_images=embedding_config(settings, clip),
        embed_text=text_config,
        search=search_index.Config(
            k=settings.most_per_category,
            texts_prefix=text_config.recipe.prefix,
            device=clip.device,
        ),
        index=build_index.Config(**values_for(build_index.Config, settings)),
        retrieve=retrieve.Config(
            **values_for(retrieve.Config, settings),
            at_least=settings.least_per_category,
            drop_thin=settings.thin == "drop",
        ),
        masks=make_masks.Config(
            selfmask=selfmask,
            mask_size=settings.mask_size,
            refine_input=settings.refine_input,
            batch_size=_MASK_BATCH[selfmask.precision],
            objects=settings.objects,
        ),
        plan_shards=plan_shards.Config(shard_bytes=round(settings.shard_mb * 1_000_000)),
    )


def _roots(settings: BuildSettings, sources: Sequence[Source]) -> tuple[str, ...]:
    """The corpus's local folders: for a table, a JSON file or tars the folders that hold them, for
    a pattern the folder that it begins with."""
    if settings.absolute_paths:
        return ()
    folders = [folder for source in sources for folder in _folders_of(source) if is_local(folder)]
    return tuple(dict.fromkeys(folders))


def _folders_of(source: Source) -> list[str]:
    if source.kind == "folder":
        return [source.uris[0]]
    if source.kind == "files":
        return [source.root]
    return [parent_uri(uri) for uri in source.uris]


def _scan(settings: BuildSettings, sources: Sequence[Source], executor: Executor) -> list[Artifact]:
    """The sources' plans."""
    plans = [
        cast(Artifact, executor.look(scan.NAME, _scan_config(settings, source), scan.Inputs()))
        for source in sources
    ]
    if settings.least_per_category is None:
        told = early_checks.all_are_taken(settings.most_per_category, plans)
        if told:
            executor.warn(told)
    return plans


def _index(
    settings: BuildSettings, configs: _Configs, plans: Sequence[Artifact], executor: Executor
) -> tuple[list[Artifact], list[ArtifactRef], Artifact]:
    """The embedded parts; related artifacts (their extra crops, and parts that they continue); and
    the index of all."""
    parts, sizes = parts_of(plans)
    embedded, continued = embed_parts(
        configs.embed_images, settings.bit_depth, parts, sizes, executor
    )
    crops = _embed_crops(settings, configs, embedded, executor)
    inputs = build_index.Inputs(
        tuple(
            build_index.EmbeddedPart(part.plan, part.part, artifact.ref, crops.get(artifact.ref))
            for part, artifact in zip(parts, embedded, strict=True)
        )
    )
    index = executor.one(build_index.NAME, configs.index, inputs)
    return embedded, [*crops.values(), *continued], index


def _check_before_reading(
    settings: BuildSettings,
    configs: _Configs,
    categories: Sequence[CategoryRows],
    plans: Sequence[Artifact],
    executor: Executor,
) -> None:
    """Check for errors that would stop the build later. If everything is embedded already, skip
    these seconds: the next stages find the same errors at once."""
    store, last = executor.store, parts_of(plans)[0][-1]
    if store.find(embed_images.locate(configs.embed_images, last, store)) is None:
        clip, selfmask = configs.models
        early_checks.check_texts([(each.name, each.searched) for each in categories], store)
        early_checks.check_index(settings.index, settings.index_search, clip, plans)
        if not settings.masks:
            early_checks.check_selfmask(settings.selfmask, selfmask)


def _embed_crops(
    settings: BuildSettings, configs: _Configs, embedded: Sequence[Artifact], executor: Executor
) -> dict[ArtifactRef, ArtifactRef]:
    """Embed extra crops of the elongated images; returns the crops' artifacts by part."""
    if settings.crops == "central":
        return {}
    sizes = {part.ref: len(embed_crops.elongated_images(part)) for part in embedded}
    wanted = [ref for ref, size in sizes.items() if size]
    if not wanted:
        return {}
    made = executor.many(
        embed_crops.NAME,
        embed_crops.Config(
            clip=configs.embed_images.clip,
            batch_size=configs.embed_images.batch_size,
            bit_depth=settings.bit_depth,
        ),
        [embed_crops.Inputs(ref) for ref in wanted],
        [sizes[ref] for ref in wanted],
    )
    return {ref: artifact.ref for ref, artifact in zip(wanted, made, strict=True)}


def _scan_config(settings: BuildSettings, source: Source) -> scan.Config:
    selection = Selection.of(settings.include, settings.exclude)
    return scan.Config(
        source=scan.source_name(source),
        part_images=settings.part_images,
        include=selection.include,
        exclude=selection.exclude,
        uri_column=settings.uri_column if source.kind == "table" else "",
    )


def _mask(
    settings: BuildSettings,
    configs: _Configs,
    second_look: ModelConfig,
    retrieval: Artifact,
    executor: Executor,
) -> list[MadeMasks]:
    """Mask the images without a mask, or take the masks that were given. Images of more than 8 bits
    have a recipe of their own, whose key includes their bit depth."""
    with retrieval.open(RETRIEVED_IMAGES) as file:
        images = read_parquet(file, columns=["image_id", "conversion"]).to_pydict()
    of_depth: dict[bool, list[str]] = {}
    for image_id, conversion in zip(images["image_id"], images["conversion"], strict=True):
        of_depth.setdefault(conversion == SIXTEEN_BIT, []).append(image_id)
    made = []
    for is_deep, wanted in sorted(of_depth.items()):
        config = replace(configs.masks, bit_depth=settings.bit_depth if is_deep else None)
        owners = _mask_owners(config, is_deep, settings, retrieval, executor)
        keys = sorted({owners[image_id] for image_id in wanted})
        refs = tuple(ArtifactRef(make_masks.NAME, key) for key in keys)
        made.append(MadeMasks(config, refs, second_look))
    return made


def _mask_owners(
    config: make_masks.Config,
    sixteen_bit: bool,
    settings: BuildSettings,
    retrieval: Artifact,
    executor: Executor,
) -> dict[str, str]:
    """The artifact that holds each retrieved image's mask, by image_id."""
    prefix = config.recipe.prefix
    plan = executor.look(
        plan_masks.NAME,
        plan_masks.Config(
            masks_prefix=prefix, part_images=settings.mask_part_images, sixteen_bit=sixteen_bit
        ),
        plan_masks.Inputs(retrieval.ref),
    )
    if plan is not None and settings.masks:
        given = import_masks.Config(
            masks=settings.masks,
            digest=config.selfmask.weights.digest,
            recipe=config.recipe,
            objects=config.objects,
        )
        executor.many(import_masks.NAME, given, *parts_of([plan]))
    elif plan is not None:
        executor.many(make_masks.NAME, config, *parts_of([plan]))
    return covered_items(executor.store, make_masks.NAME, prefix, file=MASKS, column="image_id")


def _pack(
    settings: BuildSettings,
    configs: _Configs,
    vocabulary: Vocabulary,
    retrieved: Retrieved,
    masks: tuple[ArtifactRef, ...],
    named: Artifact | None,
    chosen: Artifact | None,
    decided: ArtifactRef | None,
    executor: Executor,
) -> tuple[Artifact, list[ArtifactRef], Artifact]:
    categories = tuple(
        plan_shards.Category(
            number,
            category.name,
            "" if category.external_id is None else str(category.external_id),
            category.synonyms,
            category.prompts,
        )
        for number, category in enumerate(vocabulary.categories, start=1)
    )
    plan = executor.one(
        plan_shards.NAME,
        configs.plan_shards,
        plan_shards.Inputs(
            retrieved.retrieval.ref,
            masks,
            categories,
            chosen.ref if chosen else None,
            named.ref if named else None,
            decided,
        ),
    )
    clip, selfmask = (identity(model) for model in configs.models)
    shards = executor.many(
        pack_shards.NAME,
        pack_shards.Config(
            clip=clip,
            selfmask=selfmask,
            largest_label=len(categories),
            bit_depth=settings.bit_depth,
        ),
        *parts_of([plan]),
    )
    dataset = executor.one(
        assemble_dataset.NAME,
        assemble_dataset.Config(
            name=settings.name or file_name_of(vocabulary.name),
            clip=clip,
            selfmask=selfmask,
            untrained=any(model.weights.untrained for model in configs.models),
        ),
        assemble_dataset.Inputs(
            plan.ref,
            tuple(shard.ref for shard in shards),
            retrieved.evidence.ref if settings.goes_by_evidence else None,
        ),
    )
    return plan, [shard.ref for shard in shards], dataset
