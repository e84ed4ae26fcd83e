"""The flow `build-pseudolabels`: from a corpus and a vocabulary to shards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeVar

from prefect import flow
from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_table_artifact,
)
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from pydantic import BaseModel

from flows import evaluate_zutis, train_zutis
from flows.execution.caller import Caller, calling, current_caller
from flows.execution.child_runs import Result, publish_result, run_in_pool
from flows.execution.prefect_executor import PrefectExecutor
from flows.execution.progress import StageProgress, Watcher
from flows.pipelines.build import Build, build
from flows.pipelines.training import Evaluated
from flows.settings.build import DEFAULT_CLIP, DEFAULT_SELFMASK, DEFAULT_STORE, BuildSettings
from flows.settings.evaluation import EvaluationSettings
from flows.settings.next_steps import NextSteps, Then
from flows.settings.recipes import RecipeName, build_recipe_for_defaults
from flows.settings.run_form import (
    AtLeastOne,
    DeviceName,
    IndexClipName,
    Margin,
    MaskSize,
    NotNegative,
    Positive,
    Precision,
    SelfMaskName,
    Share,
    VocabularyName,
)
from flows.settings.training import TrainingSettings
from flows.summaries.build import markdown, summarise
from flows.summaries.data_uris import data_uri
from flows.upkeep.repair import repair_store
from storage.artifacts.leases import using
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.files.filesystems import display
from storage.shards.samples import ShardSamples
from tasks.packing.mask_sheet import draw_mask_sheet

FLOW = "build-pseudolabels"

_Settings = TypeVar("_Settings", TrainingSettings, EvaluationSettings)


def _run_name() -> str:
    corpus = flow_run.parameters["corpus"]
    return _title(
        flow_run.parameters["vocabulary"], [corpus] if isinstance(corpus, str) else corpus
    )


def _title(vocabulary: str, corpus: Sequence[str]) -> str:
    return f"{vocabulary} from {', '.join(map(display, corpus))}"[:200]


@flow(name=FLOW, flow_run_name=_run_name, validate_parameters=True)
def build_pseudolabels(
    corpus: str | list[str],
    vocabulary: VocabularyName,
    recipe: RecipeName = "",
    include: list[str] | None = None,
    exclude: list[str] | None = None,
    uri_column: str = "",
    per_category: AtLeastOne = 500,
    clip: IndexClipName = DEFAULT_CLIP,
    selfmask: SelfMaskName = DEFAULT_SELFMASK,
    mask_size: MaskSize = 512,
    refine_input: Literal["original", "reference"] = "original",
    overlap: Literal["best", "all", "last"] = "best",
    min_score: Share = 0.0,
    min_probability: Share = 0.0,
    min_margin: Margin = -1.0,
    index: str = "exact",
    index_search: str = "",
    unusual_images: Literal["convert", "reject"] = "convert",
    crops: Literal["central", "many"] = "central",
    bit_depth: NotNegative = 0,
    shard_mb: Positive = 256.0,
    part_images: NotNegative = 0,
    mask_part_images: NotNegative = 0,
    absolute_paths: bool = False,
    name: str = "",
    device: DeviceName = "auto",
    precision: Precision = "auto",
    workers: AtLeastOne = 1,
    runner: Literal["threads", "ray"] = "threads",
    ray_address: str = "auto",
    repair: bool = False,
    store: str = DEFAULT_STORE,
    then: Then = "none",
    training: TrainingSettings = TrainingSettings(),  # noqa: B008 - frozen
    evaluation: EvaluationSettings | None = None,
    work_pool: str = "",
) -> list[Result]:
    """Retrieve, mask and pack the pictures that show a vocabulary's categories; then train on them
    and evaluate, if asked.

    Args:
        corpus: folders, images, tars, tables, lists or COCO JSON files; paths, URIs or patterns.
        vocabulary: name or path of a vocabulary.
        recipe: a published model's settings, for every parameter that is left at its default.
        include: patterns such as train/*.jpg, relative to the corpus; nothing else is taken.
        exclude: patterns of what is left out.
        uri_column: column of tables that says where the images are; empty for the usual names.
        per_category: images retrieved a category.
        clip: ARCHITECTURE:WEIGHTS, weights a tag, a file, or random:SEED; hf-hub:OWNER/NAME; or
            the folder of a model that open_clip has saved.
        selfmask: nq20, nq10, a file, or random:SEED.
        mask_size: pixels of the shorter side that SelfMask sees.
        refine_input: the picture whose edges masks are snapped to; reference is its authors'.
        overlap: who keeps an image that several categories retrieve.
        min_score: least cosine of an image with a category.
        min_probability: least probability of the category, a CLIP's over the vocabulary, a
            SigLIP's of the category by itself.
        min_margin: least lead of that probability over the next category's.
        index: exact, or a FAISS factory string.
        index_search: FAISS search parameters of an approximate index, such as nprobe=16.
        unusual_images: what becomes of CMYK, 16-bit, palette, animated and alpha pictures.
        crops: what CLIP sees of images beyond 1.5 : 1, their central square or many along them.
        bit_depth: bits in use in 16-bit pictures, 8 to 16; 0: as each picture uses.
        shard_mb: megabytes a shard, about.
        part_images: images an embedding part, about; 0 chooses.
        mask_part_images: images a mask part; 0 chooses.
        absolute_paths: samples name local files by full paths, not from the corpus's folders on.
        name: what the shards are called; empty takes the vocabulary's name.
        device: auto, cpu, cuda or cuda:N.
        precision: auto, float32 or bfloat16.
        workers: parts that are worked on at a time; Ray takes as many as its cluster has room for.
        runner: what runs the parts, threads of this process or a Ray cluster.
        ray_address: of the Ray cluster, auto, HOST:PORT or ray://HOST:PORT.
        repair: check every byte of the store and rebuild what is damaged.
        store: folder or URI of the artifacts.
        then: none, train, or train+evaluate.
        training: how to train.
        evaluation: on what to evaluate, and how.
        work_pool: where to train and evaluate; empty for this process.

    Returns:
        Where the data set is, and the model and its evaluations: `stage`, `key`, `location`.
    """
    settings = BuildSettings(
        corpus=(corpus,) if isinstance(corpus, str) else tuple(corpus),
        vocabulary=vocabulary,
        include=tuple(include or ()),
        exclude=tuple(exclude or ()),
        uri_column=uri_column,
        per_category=per_category,
        clip=clip,
        selfmask=selfmask,
        mask_size=mask_size,
        refine_input=refine_input,
        overlap=overlap,
        min_score=min_score,
        min_probability=min_probability,
        min_margin=min_margin,
        index=index,
        index_search=index_search,
        unusual_images=unusual_images,
        crops=crops,
        bit_depth=bit_depth,
        shard_mb=shard_mb,
        part_images=part_images,
        mask_part_images=mask_part_images,
        absolute_paths=absolute_paths,
        name=name,
        device=device,
        precision=precision,
        workers=workers,
        runner=runner,
        ray_address=ray_address,
        repair=repair,
        store=store,
    )
    settings = build_recipe_for_defaults(recipe, settings)
    steps = NextSteps(
        then=then,
        training=_by_recipe(recipe, training),
        evaluation=_by_recipe(recipe, evaluation) if evaluation else None,
        work_pool=work_pool,
    )
    steps.check()
    artifact_store = ArtifactStore(settings.store)
    with using(artifact_store, FLOW, _title(vocabulary, settings.corpus)):
        built = _build(settings, artifact_store)
        results = publish_result(built.dataset)
        if steps.trains:
            results += _train(steps, built.dataset, current_caller())
        if steps.evaluates:
            results += _evaluate(steps, results[-1]["key"], artifact_store, current_caller())
    return results


def _by_recipe(recipe: str, settings: _Settings) -> _Settings:
    """The settings, with the recipe's where nothing else was given."""
    if not recipe:
        return settings
    return type(settings)(**{"recipe": recipe, **settings.model_dump(exclude_unset=True)})


def _build(settings: BuildSettings, store: ArtifactStore) -> Build:
    if settings.repair:
        for line in repair_store(store):
            get_run_logger().warning(line)
    caller = current_caller()
    executor = PrefectExecutor(store, caller.watcher, settings.workers, settings.cluster)
    built = build(settings, executor)
    _publish_to_ui(built, executor.reports)
    caller.results[FLOW] = built
    caller.reports += executor.reports
    return built


def run_build(
    settings: BuildSettings, watcher: Watcher, steps: NextSteps | None = None
) -> tuple[Build, list[StageProgress]]:
    """Run the flow in this process, with its progress shown by `watcher` as well.

    Raises:
        ZutisError: one sentence, for the user.
    """
    caller = call_build(settings, steps or NextSteps(), watcher)
    return caller.results[FLOW], caller.reports


def call_build(settings: BuildSettings, steps: NextSteps, watcher: Watcher) -> Caller:
    """As `run_build`; returns what came of all flows that ran.

    `results` has a `Build`, an `Artifact` for the training and `Evaluated` for the evaluation, by
    the flow's names.
    """
    parameters: dict[str, Any] = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in vars(settings).items()
    }
    with calling(watcher) as caller:
        build_pseudolabels(
            **parameters,
            then=steps.then,
            training=steps.training,
            evaluation=steps.evaluation,
            work_pool=steps.work_pool,
        )
    return caller


def _train(steps: NextSteps, dataset: Artifact, caller: Caller) -> list[Result]:
    parameters: dict[str, Any] = {
        "dataset": dataset.key, "training": steps.training, "store": dataset.store.root
    }  # fmt: skip
    if not steps.work_pool:
        made: list[Result] = train_zutis.train_zutis(**parameters)
        return made
    rows = run_in_pool(train_zutis.FLOW, steps.work_pool, _as_json(parameters))
    caller.results[train_zutis.FLOW] = _artifact(rows[0], dataset.store)
    return rows


def _evaluate(
    steps: NextSteps, training: str, store: ArtifactStore, caller: Caller
) -> list[Result]:
    parameters: dict[str, Any] = {
        "evaluation": steps.evaluation, "checkpoint": training, "store": store.root
    }  # fmt: skip
    if not steps.work_pool:
        made: list[Result] = evaluate_zutis.evaluate_zutis(**parameters)
        return made
    rows = run_in_pool(evaluate_zutis.FLOW, steps.work_pool, _as_json(parameters))
    model, *baseline = (_artifact(row, store) for row in rows)
    caller.results[evaluate_zutis.FLOW] = Evaluated(model, baseline[0] if baseline else None)
    return rows


def _as_json(parameters: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.model_dump(mode="json") if isinstance(value, BaseModel) else value
        for name, value in parameters.items()
    }


def _artifact(row: Result, store: ArtifactStore) -> Artifact:
    return store.get(ArtifactRef(row["stage"], row["key"]))


def _publish_to_ui(built: Build, reports: list[StageProgress]) -> None:
    summary = summarise(built, reports)
    create_table_artifact(
        summary.categories, key="categories", description=summary.warning or "Samples a category"
    )
    create_markdown_artifact(markdown(summary), key="summary", description="What the build came to")
    if built.dataset.counts["samples"]:
        create_image_artifact(
            data_uri(draw_mask_sheet(ShardSamples.open(built.dataset))),
            key="masks",
            description=f"Some of the pseudo-masks. {summary.warning}".strip(),
        )
