"""The flow `build-pseudolabels`: from a corpus and a vocabulary to shards."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

from prefect import flow
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from flows.pipeline import Build, build
from flows.prefect_executor import PrefectExecutor
from flows.progress import SilentWatcher, StageProgress, Watcher
from flows.repair import repair_store
from flows.settings import DEFAULT_CLIP, DEFAULT_SELFMASK, DEFAULT_STORE, BuildSettings
from flows.summary import markdown, summarise
from storage.artifacts import ArtifactStore


@dataclass
class Caller:
    """Whoever runs the flow in its own process: a flow's parameters and result are for the server,
    and can hold neither a terminal nor a build.

    Attributes:
        watcher: where to show progress, besides the UI.
        build: what came of it; reports: the stages' progress.
    """

    watcher: Watcher
    build: Build | None = None
    reports: list[StageProgress] = field(default_factory=list)


_caller: ContextVar[Caller | None] = ContextVar("caller", default=None)


def _run_name() -> str:
    corpus = flow_run.parameters["corpus"]
    sources = corpus if isinstance(corpus, str) else ", ".join(corpus)
    return f"{flow_run.parameters['vocabulary']} from {sources}"[:200]


@flow(name="build-pseudolabels", flow_run_name=_run_name, validate_parameters=True)
def build_pseudolabels(
    corpus: list[str] | str,
    vocabulary: str,
    per_category: int = 500,
    clip: str = DEFAULT_CLIP,
    selfmask: str = DEFAULT_SELFMASK,
    mask_size: int = 512,
    overlap: Literal["best", "all", "last"] = "best",
    index: str = "exact",
    index_search: str = "",
    unusual_images: Literal["convert", "reject"] = "convert",
    shard_mb: float = 256.0,
    part_images: int = 0,
    mask_part_images: int = 0,
    name: str = "",
    device: str = "auto",
    precision: str = "auto",
    workers: int = 1,
    repair: bool = False,
    store: str = DEFAULT_STORE,
) -> dict[str, str]:
    """Retrieve, mask and pack the pictures that show a vocabulary's categories.

    Args:
        corpus: folders, tars, tables or COCO JSON files; paths or URIs.
        vocabulary: name or path of a vocabulary.
        per_category: images retrieved a category.
        clip: ARCHITECTURE:WEIGHTS; weights are a tag, a file, or random:SEED.
        selfmask: nq20, nq10, a file, or random:SEED.
        mask_size: pixels of the shorter side that SelfMask sees.
        overlap: who keeps an image that several categories retrieve.
        index: exact, or a FAISS factory string.
        index_search: FAISS search parameters of an approximate index, such as nprobe=16.
        unusual_images: what becomes of CMYK, 16-bit, palette, animated and alpha pictures.
        shard_mb: megabytes a shard, about.
        part_images: images an embedding part, about; 0 chooses.
        mask_part_images: images a mask part; 0 chooses.
        name: what the shards are called; empty takes the vocabulary's name.
        device: auto, cpu, cuda or cuda:N.
        precision: auto, float32 or bfloat16.
        workers: parts that are worked on at a time.
        repair: check every byte of the store and rebuild what is damaged.
        store: folder or URI of the artifacts.

    Returns:
        Where the data set is: `stage`, `key`, `location`.
    """
    settings = BuildSettings(
        corpus=(corpus,) if isinstance(corpus, str) else tuple(corpus),
        vocabulary=vocabulary,
        per_category=per_category,
        clip=clip,
        selfmask=selfmask,
        mask_size=mask_size,
        overlap=overlap,
        index=index,
        index_search=index_search,
        unusual_images=unusual_images,
        shard_mb=shard_mb,
        part_images=part_images,
        mask_part_images=mask_part_images,
        name=name,
        device=device,
        precision=precision,
        workers=workers,
        repair=repair,
        store=store,
    )
    artifact_store = ArtifactStore(settings.store)
    if settings.repair:
        for line in repair_store(artifact_store):
            get_run_logger().warning(line)
    caller = _caller.get() or Caller(SilentWatcher())
    executor = PrefectExecutor(artifact_store, caller.watcher, settings.workers)
    built = build(settings, executor)
    _publish_to_ui(built, executor.reports)
    caller.build, caller.reports = built, executor.reports
    return {
        "stage": built.dataset.ref.stage,
        "key": built.dataset.key,
        "location": built.dataset.location,
    }


def run_build(settings: BuildSettings, watcher: Watcher) -> tuple[Build, list[StageProgress]]:
    """Run the flow in this process, with its progress shown by `watcher` as well.

    Raises:
        ZutisError: one sentence, for the user.
    """
    caller = Caller(watcher)
    token = _caller.set(caller)
    try:
        build_pseudolabels(**{**vars(settings), "corpus": list(settings.corpus)})
    finally:
        _caller.reset(token)
    assert caller.build is not None, "a flow that returns has built"
    return caller.build, caller.reports


def _publish_to_ui(built: Build, reports: list[StageProgress]) -> None:
    summary = summarise(built, reports)
    create_table_artifact(
        summary.categories, key="categories", description=summary.warning or "Samples a category"
    )
    create_markdown_artifact(markdown(summary), key="summary", description="What the build came to")
