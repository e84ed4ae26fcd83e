"""Guarantees of whole builds: nothing computed twice, nothing lost, the same bytes every time."""

from __future__ import annotations

import os
import shutil
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import fsspec
import pytest

from flows.execution.executors import LocalExecutor, NotCached
from flows.execution.stages import STAGES as ALL_STAGES
from flows.pipelines.build import build
from flows.settings.options import changed
from flows.upkeep.repair import repair_store
from storage.artifacts.store import ArtifactStore
from storage.errors.exceptions import ArtifactError, CorpusError
from tasks.deciding import import_decisions
from tasks.duplicates import find_duplicates, find_leaks, import_duplicates
from tasks.evaluation import evaluate
from tasks.indexing import ask_again, embed_crops, import_embeddings
from tasks.masking import import_masks
from tasks.merging import merge_datasets
from tasks.naming import name_objects
from tasks.packing import plan_shards
from tasks.quality import (
    choose_labels,
    damage_labels,
    embed_regions,
    plan_regions,
    score_labels,
)
from tasks.relabelling import relabel_shard
from tasks.retrieval import embed_examples
from tasks.training import train
from tests.support.files.bad_images import HTML, jpeg, tar_bytes, write
from tests.support.files.coloured_images import coloured_image, write_corpus
from tests.support.networks.fakes import FakeClip, FakeSelfMask
from tests.support.processes.nursery import run_zutis
from tests.support.runs.builds import (
    ThreadedExecutor,
    artifacts_by_stage,
    build_cached,
    build_here,
    contents,
    new_artifacts,
    settings_of,
    unfinished_attempts,
    write_vocabulary,
)

pytestmark = pytest.mark.slow

# Those of a build by default; the others have tests of their own.
_NOT_BY_DEFAULT = (
    import_embeddings.NAME, ask_again.NAME, embed_crops.NAME, embed_examples.NAME,
    find_duplicates.NAME,
    import_duplicates.NAME, import_decisions.NAME, find_leaks.NAME, train.NAME, evaluate.NAME,
    plan_regions.NAME, embed_regions.NAME, damage_labels.NAME, score_labels.NAME,
    choose_labels.NAME, name_objects.NAME, relabel_shard.NAME, merge_datasets.NAME,
    import_masks.NAME,
)  # fmt: skip
STAGES = {name: stage for name, stage in ALL_STAGES.items() if name not in _NOT_BY_DEFAULT}
NAMES = ["red", "green", "blue"]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    write_corpus(tmp_path / "corpus", [*NAMES, "yellow"], each=5)
    write(tmp_path / "corpus" / "bad.jpg", HTML)
    return tmp_path / "corpus"


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    return write_vocabulary(tmp_path / "v.txt", NAMES)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture(autouse=True)
def fakes(fake_clip: FakeClip, fake_selfmask: FakeSelfMask) -> tuple[FakeClip, FakeSelfMask]:
    return fake_clip, fake_selfmask


@pytest.fixture
def calls(fakes: tuple[FakeClip, FakeSelfMask]) -> Any:
    """Number of calls of the networks since the last call of this."""
    seen: Counter[str] = Counter()

    def since_last() -> dict[str, int]:
        clip, selfmask = fakes
        now = Counter(
            images=clip.calls["images"], texts=clip.calls["texts"], masks=selfmask.calls["images"]
        )
        new = {name: now[name] - seen[name] for name in now}
        seen.update(new)
        return new

    return since_last


class Reads:
    """Which image files were opened, by name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from storage.corpora import image_bytes

        self.names: list[str] = []
        for function in ("read_bytes", "open_binary"):
            monkeypatch.setattr(image_bytes, function, self._noting(getattr(image_bytes, function)))

    def _noting(self, function: Any) -> Any:
        def noting(uri: str, *arguments: Any, **settings: Any) -> Any:
            self.names.append(Path(uri).name)
            return function(uri, *arguments, **settings)

        return noting


# --- the same build again -----------------------------------------------------------------------


def test_a_second_build_computes_nothing_and_opens_no_image(
    corpus: Path, vocabulary: Path, store: Path, calls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(corpus, vocabulary, store)
    with pytest.raises(NotCached):
        build_cached(settings)
    reads = Reads(monkeypatch)
    first = build_here(settings)
    assert calls() == {"images": 20, "texts": 3, "masks": 12}
    # Once to embed all, once to mask and once to pack what was retrieved.
    assert Counter(reads.names).most_common(1)[0][1] == 3
    assert len(reads.names) == 21 + 12 + 12
    reads.names.clear()
    before = artifacts_by_stage(store)
    for again in (build_cached(settings), build_here(settings)):
        assert again.record.ref == first.record.ref
        assert again.dataset.ref == first.dataset.ref
    assert reads.names == []
    assert calls() == {"images": 0, "texts": 0, "masks": 0}
    assert artifacts_by_stage(store) == before


def test_a_second_build_needs_no_image_to_be_readable(
    corpus: Path, vocabulary: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may read all files, so the contents are removed instead, under equal stats."""
    settings = settings_of(corpus, vocabulary, store)
    first = build_here(settings)
    for path in corpus.iterdir():
        status = path.stat()
        path.write_bytes(bytes(status.st_size))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert build_cached(settings).dataset.ref == first.dataset.ref


# --- the same bytes -----------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 4])
def test_another_store_gets_the_same_bytes_with_any_number_of_workers(
    workers: int, corpus: Path, vocabulary: Path, store: Path, tmp_path: Path
) -> None:
    write(corpus / "m.tar", tar_bytes([(f"{n}.jpg", jpeg(n)) for n in range(6)]))
    build_here(settings_of(corpus, vocabulary, store))
    elsewhere = tmp_path / "somewhere" / "else"
    settings = settings_of(corpus, vocabulary, elsewhere, workers=workers)
    build(settings, ThreadedExecutor(ArtifactStore(str(elsewhere)), workers))
    assert contents(elsewhere) == contents(store)
    assert set(artifacts_by_stage(store)) == set(STAGES)


@pytest.mark.parametrize("threads", [1, 7])
def test_threads_within_a_stage_change_no_byte(
    threads: int, corpus: Path, vocabulary: Path, store: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    from tasks.indexing import embed_images
    from tasks.masking import make_masks
    from tasks.packing import pack_shards

    build_here(settings_of(corpus, vocabulary, store))
    for stage, field in (
        (embed_images, "read_threads"),
        (make_masks, "threads"),
        (pack_shards, "threads"),
    ):
        config = stage.Config

        def with_threads(config: Any = config, field: str = field, **settings: Any) -> Any:
            return config(**{**settings, field: threads})

        monkeypatch.setattr(stage, "Config", with_threads)
    build_here(settings_of(corpus, vocabulary, tmp_path / "other"))
    assert contents(tmp_path / "other") == contents(store)


def test_an_object_store_gets_the_same_bytes(
    corpus: Path, vocabulary: Path, store: Path, calls: Any
) -> None:
    build_here(settings_of(corpus, vocabulary, store))
    calls()
    settings = settings_of(corpus, vocabulary, "memory://behaviour/store")
    try:
        first = build_here(settings)
        assert contents(settings.store) == contents(store)
        assert calls() == {"images": 20, "texts": 3, "masks": 12}
        assert build_cached(settings).record.ref == first.record.ref
        assert first.dataset.location.startswith("memory://behaviour/store/assemble_dataset/")
    finally:
        fsspec.filesystem("memory").rm("/behaviour", recursive=True)


def test_an_object_store_holds_an_approximate_index(corpus: Path, vocabulary: Path) -> None:
    settings = settings_of(
        corpus,
        vocabulary,
        "memory://behaviour/approximate",
        index="IVF2,Flat",
        index_search="nprobe=2",
    )
    try:
        assert build_here(settings).index.counts["recall"] == 1.0
    finally:
        fsspec.filesystem("memory").rm("/behaviour", recursive=True)


# --- growth -------------------------------------------------------------------------------------


def test_one_more_category_costs_one_category(
    corpus: Path, vocabulary: Path, store: Path, calls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(corpus, vocabulary, store)
    first = build_here(settings)
    calls()
    before = artifacts_by_stage(store)
    write_vocabulary(vocabulary, [*NAMES, "yellow"])
    reads = Reads(monkeypatch)
    second = build_here(settings)
    assert calls() == {"images": 0, "texts": 1, "masks": 4}
    new = new_artifacts(before, artifacts_by_stage(store))
    old_shards = set(first.dataset.manifest["inputs"]["shards"])
    kept_shards = old_shards & set(second.dataset.manifest["inputs"]["shards"])
    assert len(kept_shards) >= len(old_shards) - 1
    assert new == {
        "embed_text": 1,
        "search_index": 1,
        "estimate_evidence": 1,
        "retrieve": 1,
        "plan_masks": 1,
        "make_masks": 1,
        "plan_shards": 1,
        "pack_shards": len(second.dataset.manifest["inputs"]["shards"]) - len(kept_shards),
        "assemble_dataset": 1,
        "record_build": 1,
    }
    [search] = [
        a for a in ArtifactStore(str(store)).published("search_index")
        if a.key not in before["search_index"]
    ]  # fmt: skip
    assert search.counts["texts"] == 1
    masked = [name for name in reads.names if name.startswith("yellow")]
    assert len(masked) == 8  # to mask, and to pack


def test_images_added_to_a_corpus_are_all_that_is_read(
    corpus: Path, vocabulary: Path, store: Path, calls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(corpus, vocabulary, store)
    build_here(settings)
    calls()
    before = artifacts_by_stage(store)
    added = write_corpus(corpus, ["yellow"], each=20, first_seed=100)
    reads = Reads(monkeypatch)
    build_here(settings)
    # No category is yellow: the same images are retrieved, and no mask and no shard is made.
    assert sorted(reads.names) == sorted(path.name for path in added)
    assert calls() == {"images": 20, "texts": 0, "masks": 0}
    new = new_artifacts(before, artifacts_by_stage(store))
    assert new.pop("embed_images") == 4
    assert {"make_masks", "pack_shards", "embed_text"}.isdisjoint(new)


def test_removed_images_are_not_served_and_return_without_being_read(
    corpus: Path, vocabulary: Path, store: Path, calls: Any
) -> None:
    settings = settings_of(corpus, vocabulary, store)
    first = build_here(settings)
    calls()
    aside = corpus.parent / "aside"
    (corpus / "red-000.jpg").rename(aside)
    without = build_here(settings)
    assert without.index.counts["images"] == first.index.counts["images"] - 1
    aside.rename(corpus / "red-000.jpg")
    again = build_here(settings)
    assert again.dataset.manifest["inputs"]["shards"] == first.dataset.manifest["inputs"]["shards"]
    assert calls() == {"images": 0, "texts": 0, "masks": 1}  # red's fifth, while one was gone


def test_a_second_vocabulary_shares_masks_and_texts(
    corpus: Path, vocabulary: Path, store: Path, tmp_path: Path, calls: Any
) -> None:
    build_here(settings_of(corpus, vocabulary, store))
    calls()
    other = write_vocabulary(tmp_path / "other.txt", ["blue", "red"])
    build_here(settings_of(corpus, other, store))
    assert calls() == {"images": 0, "texts": 0, "masks": 0}


@pytest.mark.parametrize(
    ("change", "stages"),
    [
        ({"workers": 3}, set()),
        ({"part_images": 3}, set()),  # the corpus is cut already
        ({"name": "shards"}, {"assemble_dataset", "record_build"}),
        (
            {"shard_mb": 0.06},
            {"plan_shards", "pack_shards", "assemble_dataset", "record_build"},
        ),
        ({"overlap": "last"}, {"retrieve", "plan_shards", "assemble_dataset", "record_build"}),
        (
            {"mask_size": 48},
            {"plan_masks", "make_masks", "plan_shards", "pack_shards", "assemble_dataset",
             "record_build"},
        ),
    ],
)  # fmt: skip
def test_a_setting_changes_only_what_is_downstream_of_it(
    change: dict[str, Any], stages: set[str], corpus: Path, vocabulary: Path, store: Path
) -> None:
    build_here(settings_of(corpus, vocabulary, store))
    before = artifacts_by_stage(store)
    build_here(settings_of(corpus, vocabulary, store, **change))
    assert set(new_artifacts(before, artifacts_by_stage(store))) == stages


# --- interruptions ------------------------------------------------------------------------------


class StoppedError(Exception):
    """The exception with which a test interrupts a build."""


def interrupt(monkeypatch: pytest.MonkeyPatch, stage: str, call: int, *, at_end: bool) -> None:
    """Let the stage's `call`th run fail: before it begins, or when all is written but the
    manifest."""
    module = STAGES[stage]
    run, count = module.run, Counter[str]()

    def failing(config: Any, inputs: Any, store: ArtifactStore, progress: Any) -> Any:
        count["calls"] += 1
        if count["calls"] != call:
            return run(config, inputs, store, progress)
        if not at_end:
            raise StoppedError
        with monkeypatch.context() as patch:
            patch.setattr(store, "publish", refuse)
            return run(config, inputs, store, progress)

    def refuse(*arguments: Any, **named: Any) -> Any:
        raise StoppedError

    monkeypatch.setattr(module, "run", failing)


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize(
    ("stage", "call"),
    [(stage, 1) for stage in STAGES]
    + [("embed_images", 3), ("make_masks", 2), ("make_masks", 3), ("pack_shards", 2)],
)
def test_a_build_that_was_interrupted_ends_in_the_same_bytes(
    stage: str,
    call: int,
    at_end: bool,
    corpus: Path,
    vocabulary: Path,
    store: Path,
    tmp_path: Path,
    calls: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    build_here(settings_of(corpus, vocabulary, tmp_path / "whole"))
    needed = calls()
    settings = settings_of(corpus, vocabulary, store)
    with monkeypatch.context() as patch:
        interrupt(patch, stage, call, at_end=at_end)
        with pytest.raises(StoppedError):
            build_here(settings)
    assert unfinished_attempts(store) == []
    build_here(settings)
    assert without_mask_plans(contents(store)) == without_mask_plans(contents(tmp_path / "whole"))
    spent = calls()
    lost = {name: spent[name] - needed[name] for name in spent}
    assert all(0 <= lost[name] <= (5 if at_end else 0) for name in lost)  # at most one part


def without_mask_plans(found: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """A plan of masks has the images without masks at its time, which an interruption changes."""
    return {ref: files for ref, files in found.items() if not ref.startswith("plan_masks/")}


KILLED = """
import os, sys
from pathlib import Path
root, stage, call = sys.argv[1], sys.argv[2], int(sys.argv[3])
sys.path.insert(0, sys.argv[4])
from tests.support.runs.builds import build_here, settings_of
from tests.support.networks.fakes import FakeClip, FakeSelfMask
from flows.execution.stages import STAGES
import storage.artifacts.store
clip, selfmask = FakeClip(), FakeSelfMask()
STAGES["embed_images"].load_clip_model = STAGES["embed_text"].load_clip_model = lambda _: clip
STAGES["make_masks"].load_selfmask_model = lambda _: selfmask
publish, count = storage.artifacts.store.ArtifactStore.publish, 0
def killing(store, attempt, *arguments, **named):
    global count
    count += attempt.ref.stage == stage
    if count == call:
        os._exit(9)
    return publish(store, attempt, *arguments, **named)
storage.artifacts.store.ArtifactStore.publish = killing
build_here(settings_of(Path(root) / "corpus", Path(root) / "v.txt", Path(root) / "store"))
"""


def test_a_process_that_is_killed_leaves_no_artifact_and_the_next_one_ends_it(
    corpus: Path, vocabulary: Path, store: Path, tmp_path: Path
) -> None:
    build_here(settings_of(corpus, vocabulary, tmp_path / "whole"))
    repository = Path(__file__).parents[2]
    arguments = [str(tmp_path), "make_masks", "2", str(repository)]
    died = run_zutis(arguments, tmp_path, os.environ, timeout=120, code=KILLED)
    assert died.returncode == 9, died.stderr
    [left] = unfinished_attempts(store)
    assert "/make_masks/" in left
    assert len(artifacts_by_stage(store)["make_masks"]) == 1
    build_here(settings_of(corpus, vocabulary, store))
    assert without_mask_plans(contents(store)) == without_mask_plans(contents(tmp_path / "whole"))


def test_an_image_that_changed_since_it_was_indexed_is_indexed_again(
    corpus: Path, vocabulary: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.masking import make_masks

    run = make_masks.run
    changed = corpus / "red-000.jpg"

    def change_first(*arguments: Any) -> Any:
        coloured_image("red", 99).save(changed)
        return run(*arguments)

    settings = settings_of(corpus, vocabulary, store, per_category=5)
    with monkeypatch.context() as patch:
        patch.setattr(make_masks, "run", change_first)
        with pytest.raises(CorpusError, match=r"red-000\.jpg.*run the same command again"):
            build_here(settings)
    built = build_here(settings)
    assert built.index.counts["images"] == 20
    assert built.shard_plan.counts["categories"][0]["masked"] == 5


# --- damage -------------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    later = path.stat().st_mtime + 5  # whoever writes to a file moves its time
    os.utime(path, (later, later))


STAGES_WITH_FILES = [s for s in STAGES if s not in ("record_build", "plan_masks")]


@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink], ids=["short", "changed", "gone"])
@pytest.mark.parametrize("stage", STAGES_WITH_FILES)
def test_a_damaged_file_is_named_and_repaired_to_the_same_bytes(
    stage: str, damage: Any, corpus: Path, vocabulary: Path, store: Path, tmp_path: Path
) -> None:
    settings = settings_of(corpus, vocabulary, tmp_path / "first")
    build_here(settings)
    before = contents(tmp_path / "first")
    artifact = ArtifactStore(settings.store).published(stage)[0]
    for number, name in enumerate(artifact.files):
        copy = settings_of(corpus, vocabulary, tmp_path / f"copy-{number}")
        shutil.copytree(settings.store, copy.store)
        there = ArtifactStore(copy.store)
        damage(Path(there.get(artifact.ref).uri(name)))
        for attempt in (build_cached, build_here):
            with pytest.raises(ArtifactError) as raised:
                attempt(copy)
            assert f"{artifact.key}" in str(raised.value)
            assert name in str(raised.value)
            assert "--repair" in str(raised.value)
        assert any(str(artifact.ref) in line for line in repair_store(ArtifactStore(copy.store)))
        build_here(copy)
        assert without_mask_plans(contents(copy.store)) == without_mask_plans(before)


def test_a_damaged_manifest_is_named_and_repaired(
    corpus: Path, vocabulary: Path, store: Path
) -> None:
    settings = settings_of(corpus, vocabulary, store)
    build_here(settings)
    before = contents(store)
    for stage in STAGES:
        there = ArtifactStore(str(store))
        ref = there.published(stage)[0].ref
        truncate(Path(there.location(ref)) / "manifest.json")
        if stage != "plan_masks":  # which nothing reads any more
            with pytest.raises(ArtifactError, match=ref.key):
                build_here(settings)
        assert list(repair_store(there))
        build_here(settings)
    assert without_mask_plans(contents(store)) == without_mask_plans(before)


# --- company ------------------------------------------------------------------------------------


def test_two_builds_at_once_end_in_the_same_bytes(
    corpus: Path, vocabulary: Path, store: Path, tmp_path: Path
) -> None:
    build_here(settings_of(corpus, vocabulary, tmp_path / "alone"))
    settings = settings_of(corpus, vocabulary, store)
    together, results = threading.Barrier(2), []

    def run() -> None:
        together.wait()
        results.append(build_here(settings))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [built.dataset.key for built in results] == [results[0].dataset.key] * 2
    assert len(results) == 2
    assert unfinished_attempts(store) == []
    after = contents(store)
    assert without_mask_plans(after) == without_mask_plans(contents(tmp_path / "alone"))


@pytest.fixture
def link_to_corpus(corpus: Path) -> Path:
    """A corpus by way of a symbolic link: another path, the same bytes."""
    link = corpus.parent / "link"
    link.symlink_to(corpus, target_is_directory=True)
    return link


def test_two_sources_with_the_same_images_are_one_corpus(
    corpus: Path, link_to_corpus: Path, vocabulary: Path, store: Path
) -> None:

    settings = changed(
        settings_of(corpus, vocabulary, store), corpus=(str(corpus), str(link_to_corpus))
    )
    built = build_here(settings)
    assert built.index.counts["images"] == 20
    assert built.index.counts["duplicates"] == 20
    assert built.index.counts["rejects"] == {"not_an_image": 2}


def test_more_images_a_category_than_there_are_take_all_and_say_so_before_the_work(
    corpus: Path, vocabulary: Path, store: Path
) -> None:
    executor = LocalExecutor(ArtifactStore(str(store)))
    built = build(settings_of(corpus, vocabulary, store, per_category=500), executor)
    categories = built.shard_plan.counts["categories"]
    assert {category["retrieved"] for category in categories} == {20}
    stages = [report.stage for report in executor.reports]
    before_images = executor.reports[: stages.index("embed_images")]
    [told] = [told for report in before_images for told in report.warnings]
    assert "per_category is 500 and the corpus lists 21 images" in told
    assert "--min-score" in told


def test_shards_of_a_grown_vocabulary_are_those_of_one_that_was_always_so(
    corpus: Path, vocabulary: Path, store: Path, tmp_path: Path
) -> None:
    """Text rows and searches that were made together or apart lead to the same plan of samples,
    but for which artifact holds a mask."""
    build_here(settings_of(corpus, vocabulary, store))
    write_vocabulary(vocabulary, [*NAMES, "yellow"])
    from tasks.stage.layout import SAMPLES
    from tests.support.runs.builds import rows_of

    def samples(where: Path) -> list[dict[str, Any]]:
        plan = build_here(settings_of(corpus, vocabulary, where)).shard_plan
        assert plan.ref.stage == plan_shards.NAME
        return [{**row, "masked": ""} for row in rows_of(plan, SAMPLES)]

    assert samples(store) == samples(tmp_path / "fresh")
