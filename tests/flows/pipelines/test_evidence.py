"""Builds that go by how many images show a category; the numbers are planted."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.settings.build import BuildSettings
from flows.settings.options import changed
from flows.summaries.build import summarise
from storage.errors.exceptions import CorpusError
from tasks.packing.record_build import used_artifacts
from tasks.stage.layout import CARD, RETRIEVAL
from tests.support.files.coloured_images import write_corpus
from tests.support.networks.fakes import FakeClip, FakeSelfMask
from tests.support.runs.builds import (
    artifacts_by_stage,
    build_cached,
    build_here,
    new_artifacts,
    rows_of,
    settings_of,
    write_vocabulary,
)

NAMES = ["red", "green", "blue"]
SHOWN = {"red": 12, "green": 3, "blue": 30}


@pytest.fixture
def settings(
    tmp_path: Path,
    fake_clip: FakeClip,
    fake_selfmask: FakeSelfMask,
    monkeypatch: pytest.MonkeyPatch,
) -> BuildSettings:
    """Of a build whose estimates are those of SHOWN, in the order of the categories."""
    planted = [SHOWN[name] for name in NAMES] * 5
    monkeypatch.setattr(
        "tasks.retrieval.estimate_evidence.estimate_count", lambda *_: planted.pop(0)
    )
    write_corpus(tmp_path / "corpus", NAMES, each=8)
    vocabulary = write_vocabulary(tmp_path / "v.txt", NAMES)
    return settings_of(tmp_path / "corpus", vocabulary, tmp_path / "store", per_category=6)


def kept(build_settings: BuildSettings) -> dict[str, int]:
    rows = rows_of(build_here(build_settings).retrieval, RETRIEVAL)
    return {name: sum(row["kept"] for row in rows if row["category"] == name) for name in NAMES}


def test_auto_takes_as_many_as_show_a_category_within_bounds(settings: BuildSettings) -> None:
    auto = changed(settings, overlap="all", per_category="auto:5-20")
    assert kept(auto) == {"red": 12, "green": 5, "blue": 20}


def test_thin_categories_are_kept_and_named(settings: BuildSettings) -> None:
    built = build_here(settings)
    [note] = [value for label, value in summarise(built, []).facts.items() if label == "few images"]
    assert note.startswith("green: about 3 images, the best green-0")
    assert "rivals" in note
    assert "few pictures" not in built.dataset.open(CARD).read().decode()
    assert built.evidence.ref in used_artifacts(built.record)


def test_thin_categories_get_no_label_on_request(settings: BuildSettings) -> None:
    before = build_here(settings)
    built = build_here(changed(settings, thin="drop"))
    rows = rows_of(built.retrieval, RETRIEVAL)
    assert {row["reason"] for row in rows if row["category"] == "green"} == {"thin_category"}
    assert {row["category"] for row in rows if row["kept"]} == {"red", "blue"}
    card = built.dataset.open(CARD).read().decode()
    assert "too few pictures are estimated to show:**\n\n- green: about 3 images" in card
    assert built.evidence.ref == before.evidence.ref


def test_thin_categories_stop_a_build_on_request(settings: BuildSettings) -> None:
    with pytest.raises(CorpusError, match=r"each of 1 categories, green \(3\): .* --thin keep"):
        build_here(changed(settings, thin="stop"))
    built = artifacts_by_stage(settings.store)
    assert "retrieve" not in built


def test_what_is_not_thin_is_built_as_ever(
    settings: BuildSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.retrieval.estimate_evidence.estimate_count", lambda *_: 30)
    build_here(settings)
    before = artifacts_by_stage(settings.store)
    build_here(changed(settings, thin="stop"))
    assert new_artifacts(before, artifacts_by_stage(settings.store)) == {}
    build_cached(changed(settings, thin="stop"))


def test_a_build_of_thin_categories_alone_is_refused(
    settings: BuildSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.retrieval.estimate_evidence.estimate_count", lambda *_: 2)
    with pytest.raises(CorpusError, match="--thin drop would leave none"):
        build_here(changed(settings, thin="drop"))
