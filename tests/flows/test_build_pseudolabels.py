"""The flow on a real Prefect API: task runs, cached states, artifacts in the UI, failures."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.sorting import FlowRunSort

from flows.build_pseudolabels import run_build
from flows.execution import stage_task
from flows.execution.progress import SilentWatcher, StageProgress
from flows.settings.build import BuildSettings
from flows.settings.options import changed
from storage.artifacts.leases import leases
from storage.artifacts.store import ArtifactStore
from storage.errors.exceptions import ConfigError, StorageError, ZutisError
from storage.files.filesystems import RefusedError
from tests.support.files.coloured_images import write_corpus
from tests.support.networks.fakes import FakeClip, FakeSelfMask

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_api")]


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry without delay."""
    stage_task.stage_task.cache_clear()
    monkeypatch.setattr(stage_task, "_RETRY_SECONDS", [0.0, 0.0])
    yield
    stage_task.stage_task.cache_clear()


def last_run() -> tuple[Any, list[Any]]:
    """The latest flow run and its task runs, from the server."""
    with get_client(sync_client=True) as client:
        [run] = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=1)
        chosen = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
        return run, client.read_task_runs(flow_run_filter=chosen)


def wait_for_task_runs(count: int) -> list[Any]:
    """Task runs reach the server as events, some after the flow has ended."""
    import time

    for _ in range(100):
        _, tasks = last_run()
        if len(tasks) >= count and all(task.state and task.state.is_final() for task in tasks):
            return tasks
        time.sleep(0.1)
    raise AssertionError(f"{len(tasks)} of {count} task runs arrived")


def read_artifacts(run_id: Any) -> dict[str, Any]:
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

    with get_client(sync_client=True) as client:
        chosen = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
        return {
            artifact.key: artifact for artifact in client.read_artifacts(artifact_filter=chosen)
        }


def test_one_task_run_per_part_and_tables_in_the_ui(settings: BuildSettings):
    build, reports = run_build(settings, SilentWatcher())
    run, _ = last_run()
    assert run.state is not None
    assert run.state.is_completed()
    tasks = wait_for_task_runs(16)
    per_stage = Counter(task.name.split(" ")[0] for task in tasks)
    assert per_stage["embed_images"] == 3
    assert per_stage["make_masks"] == 3
    assert per_stage["build_index"] == 1
    artifacts = read_artifacts(run.id)
    assert artifacts["embed-images"].data == 100.0
    assert "12 images" in artifacts["embed-images"].description
    assert "untrained" in artifacts["categories"].description
    assert build.dataset.location in artifacts["summary"].data
    assert artifacts["masks"].data.startswith("data:image/jpeg;base64,")
    assert "untrained" in artifacts["masks"].description
    assert next(r for r in reports if r.stage == "embed_images").done == 12


def test_a_run_announces_itself_while_it_lasts_and_carries_our_tag(settings: BuildSettings):
    store = ArtifactStore(settings.store)
    seen = []

    class Looking(SilentWatcher):
        def begin(self, progress: StageProgress) -> None:
            seen.extend(leases(store))

    run_build(settings, Looking())
    assert {lease.what for lease in seen} == {"build-pseudolabels"}
    assert settings.corpus[0] in seen[0].title
    assert leases(store) == []
    assert last_run()[0].tags == ["zutis"]


def test_a_second_run_is_shown_as_cached_and_computes_nothing(
    settings: BuildSettings, fake_clip: FakeClip, fake_selfmask: FakeSelfMask
):
    first, _ = run_build(settings, SilentWatcher())
    asked = fake_clip.calls + fake_selfmask.calls
    second, reports = run_build(settings, SilentWatcher())
    assert second.dataset.manifest == first.dataset.manifest
    assert fake_clip.calls + fake_selfmask.calls == asked
    states = Counter(task.state_name for task in wait_for_task_runs(11))
    assert states["Cached"] >= 9
    assert all(r.cached_parts == r.parts for r in reports if r.stage not in ("scan", "plan_masks"))


def test_results_survive_nothing_but_the_store_does(
    settings: BuildSettings, fake_clip: FakeClip, tmp_path: Path
):
    """A result record whose artifact is gone is a miss, not a broken reference."""
    build, _ = run_build(settings, SilentWatcher())
    images = fake_clip.calls["images"]
    shutil.rmtree(settings.store)
    rebuilt, _ = run_build(settings, SilentWatcher())
    assert fake_clip.calls["images"] == 2 * images
    assert rebuilt.dataset.files == build.dataset.files


def test_a_file_system_that_recovers_is_tried_again(
    settings: BuildSettings, monkeypatch: pytest.MonkeyPatch, no_waiting: None
):
    failures = iter([StorageError("The network is gone."), None])
    run_stage = stage_task.run_stage

    def flaky(stage: str, *rest: Any) -> Any:
        if stage == "embed_images" and (error := next(failures, None)):
            raise error
        return run_stage(stage, *rest)

    monkeypatch.setattr(stage_task, "run_stage", flaky)
    build, _ = run_build(settings, SilentWatcher())
    assert build.index.counts["images"] == 12


@pytest.mark.parametrize("kind", [ConfigError, RefusedError])
def test_what_only_a_person_can_change_is_not_tried_again_and_keeps_its_sentence(
    kind: type[ZutisError],
    settings: BuildSettings,
    monkeypatch: pytest.MonkeyPatch,
    no_waiting: None,
):
    calls = []

    def refuse(stage: str, *rest: Any) -> Any:
        calls.append(stage)
        raise kind("Choose another.")

    monkeypatch.setattr(stage_task, "run_stage", refuse)
    with pytest.raises(kind, match=r"^Choose another\.$"):
        run_build(settings, SilentWatcher())
    assert calls == ["scan"]
    run, _ = last_run()
    assert run.state is not None
    assert run.state.is_failed()


def test_after_a_failed_part_no_other_is_begun_and_what_is_done_is_kept(
    settings: BuildSettings, monkeypatch: pytest.MonkeyPatch, no_waiting: None, fake_clip: FakeClip
):
    run_stage = stage_task.run_stage
    begun = []

    def fail_second(stage: str, config: Any, inputs: Any, *rest: Any) -> Any:
        if stage == "embed_images":
            begun.append(inputs.part)
            if inputs.part == 1:
                raise ConfigError("Part 1 fails.")
        return run_stage(stage, config, inputs, *rest)

    monkeypatch.setattr(stage_task, "run_stage", fail_second)
    with pytest.raises(ConfigError, match="Part 1 fails"):
        run_build(settings, SilentWatcher())
    assert begun == [0, 1]
    monkeypatch.setattr(stage_task, "run_stage", run_stage)
    _, reports = run_build(settings, SilentWatcher())
    assert next(r for r in reports if r.stage == "embed_images").cached_parts == 1
    assert fake_clip.calls["images"] == 12


def test_workers_change_nothing(settings: BuildSettings, tmp_path: Path):

    one, _ = run_build(settings, SilentWatcher())
    other = changed(settings, workers=3, store=str(tmp_path / "other"))
    three, _ = run_build(other, SilentWatcher())
    assert one.record.key == three.record.key
    assert one.dataset.files == three.dataset.files


def test_only_new_images_are_read(settings: BuildSettings, corpus: Path, fake_clip: FakeClip):
    run_build(settings, SilentWatcher())
    write_corpus(corpus, ["red"], each=2, first_seed=50)
    build, reports = run_build(settings, SilentWatcher())
    assert build.index.counts["images"] == 14
    assert fake_clip.calls["images"] == 14
    embedding = next(r for r in reports if r.stage == "embed_images")
    assert (embedding.done, embedding.cached_parts, embedding.parts) == (2, 3, 4)
