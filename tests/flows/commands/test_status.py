"""`zutis status`: running and crashed builds, and published artifacts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.commands.status import status_command
from flows.service.notice import notice
from flows.settings.build import BuildSettings
from storage.artifacts.fingerprints import Recipe, digest
from storage.artifacts.leases import DEAD_AFTER_SECONDS, RUNNING, using
from storage.artifacts.store import ArtifactRef, ArtifactStore
from tests.support.processes.nursery import run_zutis
from tests.support.runs.builds import build_here

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def wide_terminal_without_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "store"))


def shown(store: ArtifactStore, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    status_command(store=store.root)
    return capsys.readouterr().out


def rows(text: str, word: str) -> list[list[str]]:
    """Cells of the table rows that contain the word."""
    lines = [line for line in text.splitlines() if line.startswith("│") and word in line]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def publish(store: ArtifactStore, stage: str, content: bytes, **counts: float) -> str:
    recipe = Recipe(stage=stage, version=1, config={"content": digest(content.hex())})
    with store.attempt(ArtifactRef(stage, recipe.key())) as attempt:
        with attempt.create("rows.bin") as file:
            file.write(content)
        return store.publish(attempt, recipe, counts=counts).key


def leave_behind(store: ArtifactStore, age: float) -> None:
    path = Path(store.root, RUNNING, "0123.json")
    path.parent.mkdir(parents=True)
    fields = {"what": "build-pseudolabels", "title": "coco", "host": "box", "pid": 7}
    path.write_text(json.dumps(fields | {"started": "2026-01-01T00:00:00+00:00"}))
    os.utime(path, (time.time() - age, time.time() - age))


def test_an_empty_store_has_nothing_to_tell(store, capsys):
    text = shown(store, capsys)
    assert "No run is announced" in text
    assert f"No artifact in {store.root}" in text
    assert not Path(store.root).exists()


def test_a_build_shows_its_stages_and_its_record(settings: BuildSettings, capsys):
    build_here(settings)
    store = ArtifactStore(settings.store)
    text = shown(store, capsys)
    for stage in store.stages():
        [row] = rows(text, stage)[:1]
        assert row[1] == str(len(store.published(stage)))
    [record] = store.published("record_build")
    assert record.key in text
    assert "colours" in text


def test_sizes_are_those_of_the_files(store, capsys):
    publish(store, "make_masks", b"x" * 3_000_000)
    publish(store, "make_masks", b"y" * 2_000_000)
    [[stage, count, size, *_]] = rows(shown(store, capsys), "make_masks")
    assert (stage, count, size) == ("make_masks", "2", "5.0")


def test_what_is_unfinished_is_counted_apart(store, capsys):
    left = Path(store.root, "make_masks", "0123-4567", "attempt-1")
    left.mkdir(parents=True)
    (left / "masks.parquet").write_bytes(b"x" * 4_000_000)
    assert rows(shown(store, capsys), "make_masks") == [["make_masks", "0", "4.0", "1", "4.0"]]


def test_the_latest_trainings_come_first_and_few(store, capsys):
    keys = []
    for number in range(8):
        keys.append(publish(store, "train", bytes([number]), iterations=number))
        manifest = Path(store.root, "train", keys[-1], "manifest.json")
        os.utime(manifest, (1e9 + number, 1e9 + number))
    found = [row[0] for row in rows(shown(store, capsys), "iterations")]
    assert found == keys[:2:-1]


@pytest.mark.parametrize(
    ("age", "state"), [(1, "running"), (400, "silent"), (DEAD_AFTER_SECONDS + 60, "crashed")]
)
def test_runs_are_told_by_their_last_sign_of_life(store, capsys, age, state):
    leave_behind(store, age)
    text = shown(store, capsys)
    [row] = rows(text, "build-pseudolabels")
    assert row[:4] == [state, "build-pseudolabels", "coco", "box 7"]
    assert ("the same command goes on" in text) == (state == "crashed")


def test_a_run_of_this_process_is_running(store, capsys):
    with using(store, "train-zutis", "abc"):
        assert rows(shown(store, capsys), "train-zutis")[0][0] == "running"
    assert "No run is announced" in shown(store, capsys)


def test_a_training_that_has_not_ended_is_named(store, capsys):
    folder = Path(store.root, "train", "0123-4567", ".state")
    folder.mkdir(parents=True)
    (folder / "step-00000500.pt").write_bytes(b"x" * 2_000_000)
    assert "Training 0123-4567 has not ended" in shown(store, capsys)


@pytest.mark.parametrize("told_by", ["PREFECT_API_URL", "zutis serve"])
def test_prefects_runs_are_shown_where_a_server_answers(
    told_by, store, capsys, prefect_api, monkeypatch, tmp_path
):
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL
    from prefect.states import Completed, Crashed

    @flow(name="build-pseudolabels")
    def build() -> None: ...

    @flow(name="something-else")
    def other() -> None: ...

    lost = f"lost, told by {told_by}"  # the server is shared by the session
    with get_client(sync_client=True) as client:
        client.create_flow_run(build, name=lost, state=Crashed(message="the machine died"))
        client.create_flow_run(build, name="good-run", state=Completed())
        client.create_flow_run(other, name="other-run", state=Crashed())
    api = str(PREFECT_API_URL.value())
    if told_by == "PREFECT_API_URL":
        monkeypatch.setenv(told_by, api)
        text = shown(store, capsys)
    else:
        (tmp_path / "prefect").mkdir(exist_ok=True)
        with notice(api):
            text = shown(store, capsys)
    [row] = rows(text, lost)
    assert (row[0], row[3]) == ("Crashed", "the machine died")
    assert "good-run" not in text
    assert "other-run" not in text


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [
        {"PREFECT_API_URL": "http://127.0.0.1:9/api"},
        {"PREFECT_API_URL": "ftp://127.0.0.1/api"},
        {"PREFECT_API_URL": "http://a..b/api"},
        {"PREFECT_API_URL": "http://127.0.0.1:9/api", "ALL_PROXY": "socks5://127.0.0.1:9"},
    ],
    ids=["nobody", "ftp", "no host", "socks"],
)
def test_a_configured_server_that_does_not_answer_stops_nothing(store, environment):
    publish(store, "train", b"x", iterations=1)
    done = run_zutis(["status", "--store", store.root], ROOT, os.environ | environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert f"No Prefect server answers at {environment['PREFECT_API_URL']}" in done.stdout
    assert "Latest trainings" in done.stdout


def test_it_needs_neither_torch_nor_prefect(store):
    publish(store, "train", b"x", iterations=1)
    heavy = "{'torch', 'open_clip', 'faiss', 'prefect'}"
    lines = [
        "import sys",
        "from flows.commands.status import status_command",
        f"status_command(store={store.root!r})",
        f"assert not {heavy} & set(sys.modules)",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Latest trainings" in done.stdout
