"""`zutis retry`: what may pass is asked for once more, and a build is made with what came."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.pipelines.build import Build
from flows.pipelines.recorded import as_given, settings_of_record
from flows.settings.build import BuildSettings
from storage.errors.exceptions import ArtifactError
from tests.support.files.bad_images import HTML, jpeg, write
from tests.support.files.coloured_images import write_corpus
from tests.support.networks.fakes import FakeClip, FakeSelfMask
from tests.support.runs.builds import build_here, settings_of, write_vocabulary
from tests.support.runs.command_line import said
from tests.support.servers.bad_server import BadServer, bad_server, hurried

NAMES = ["red", "green"]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[BadServer]:
    with bad_server() as running, hurried(monkeypatch):
        yield running


@pytest.fixture
def rebuilt(monkeypatch: pytest.MonkeyPatch) -> list[BuildSettings]:
    """Settings of the builds that retry asks for, which are made without Prefect."""
    asked: list[BuildSettings] = []

    def run(settings: BuildSettings, _: Any) -> Build:
        asked.append(settings)
        return build_here(settings)

    monkeypatch.setattr("flows.repeating.retry.run_build", run)
    return asked


@pytest.fixture
def settings(
    server: BadServer, tmp_path: Path, fake_clip: FakeClip, fake_selfmask: FakeSelfMask
) -> BuildSettings:
    """Of a corpus of six images, of which one's server is busy and one is none."""
    write_corpus(tmp_path / "files", NAMES, each=2)
    server.scripts = {"/busy.jpg": [503], "/gone.jpg": [404]}
    places = [*sorted(map(str, (tmp_path / "files").iterdir()))]
    places += [server.url("/busy.jpg"), server.url("/gone.jpg")]
    table = write(tmp_path / "list.txt", "".join(f"{one}\n" for one in places).encode())
    vocabulary = write_vocabulary(tmp_path / "v.txt", NAMES)
    return settings_of(table, vocabulary, tmp_path / "store", part_images=0)


def test_what_came_is_built_with(
    settings: BuildSettings, server: BadServer, rebuilt: list[BuildSettings]
) -> None:
    first = build_here(settings)
    assert first.index.counts["images"] == 4
    server.scripts["/busy.jpg"] = [jpeg(7)]
    output = said("retry", "--store", settings.store)
    assert "Asked again for 1 files: 1 images came, 0 files are still to be had." in output
    [asked] = rebuilt
    assert asked.corpus == settings.corpus
    assert build_here(asked).index.counts["images"] == 5


def test_what_is_still_to_be_had_is_told_and_nothing_is_built(
    settings: BuildSettings, rebuilt: list[BuildSettings]
) -> None:
    build_here(settings)
    output = said("retry", "--store", settings.store)
    assert "Asked again for 1 files: 0 images came, 1 files are still to be had" in output
    assert "server_error" in output
    assert rebuilt == []


def test_reasons_that_don_t_pass_are_not_asked_about(
    settings: BuildSettings, server: BadServer, rebuilt: list[BuildSettings]
) -> None:
    server.scripts["/busy.jpg"] = [HTML]
    build_here(settings)
    asked = len(server.asked)
    output = said("retry", "--store", settings.store)
    assert "Nothing to ask for again" in output
    assert "1 missing" in output
    assert len(server.asked) == asked
    assert rebuilt == []


def test_settings_of_a_record_are_those_of_its_build(
    settings: BuildSettings, tmp_path: Path
) -> None:
    given = settings.model_copy(update={"keep": 0.8, "per_category": "auto:2-4"})
    record = build_here(settings).record
    record.manifest["notes"].update(as_given(given))
    found, folder = settings_of_record(record, store=settings.store, device="cpu")
    assert found == given
    assert folder == str(Path.cwd())


def test_a_build_without_settings_is_a_sentence(settings: BuildSettings) -> None:
    record = build_here(settings).record
    record.manifest["notes"].pop("settings")
    with pytest.raises(ArtifactError, match="before settings were kept: run its own command"):
        settings_of_record(record)


def test_a_store_without_builds_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    with pytest.raises(ArtifactError, match="no data set"):
        said("retry", "--store", tmp_path / "store")
