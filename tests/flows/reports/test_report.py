"""The page on a build: what it says, where it lies, and that nothing else changes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flows.builds.found import build_of, find_build
from flows.builds.labels import load_labels
from flows.pipelines.build import Build
from flows.reports.gathered import gather
from flows.reports.report import default_place, report_at_end, write_if_new, write_report
from flows.settings.build import BuildSettings
from flows.settings.options import changed
from storage.artifacts.inventory import take_inventory
from storage.artifacts.store import ArtifactStore
from storage.decisions.decision import Decision, now
from storage.decisions.decision_file import append_decisions
from storage.errors.exceptions import ArtifactError, ConfigError
from tests.support.pages import Reader, assert_stands_alone
from tests.support.runs.builds import build_here


@pytest.fixture
def built(settings: BuildSettings) -> Build:
    return build_here(settings)


def published(store: ArtifactStore) -> list[str]:
    return [str(holding.ref) for holding in take_inventory(store)]


def test_it_shows_every_category_and_step(built):
    report = gather(build_of(built.dataset))
    assert [row.name for row in report.categories] == ["red", "green", "blue"]
    assert [row.labels for row in report.categories] == [4, 4, 4]
    assert [len(gallery.thumbnails) for gallery in report.galleries] == [4, 4, 4]
    steps = {step.title: step.count for step in report.steps}
    assert steps["files of the corpus"] == 12
    assert steps["samples in the shards"] == 12
    assert [step.count for step in report.steps] == sorted(
        (step.count for step in report.steps), reverse=True
    )
    first = report.galleries[0].thumbnails[0]
    assert first.name.startswith("red-")
    assert first.caption == "rank 1"
    assert [stage.stage for stage in report.settings][:2] == ["scan", "embed_images"]


def test_the_page_stands_alone_beside_the_stages(built, settings):
    store = ArtifactStore(settings.store)
    before = published(store), store.stages()
    place = write_report(build_of(built.dataset))
    assert place == f"{store.root}/reports/{built.dataset.key}.html"
    page = Path(place).read_bytes()
    assert_stands_alone(Reader(page.decode()))
    assert (published(store), store.stages()) == before
    assert list(Path(place).parent.iterdir()) == [Path(place)]


def test_it_shows_what_people_decided_and_how_many_labels_are_right(built, settings, tmp_path):
    file = tmp_path / "decisions.jsonl"
    labels = load_labels(build_of(built.dataset))
    reds = [at for at in range(len(labels)) if labels.category(at) == 1]
    append_decisions(file, [
        Decision(
            image_id=labels.image_id(at), category="red", sample=4, when=now(),
            verdict="reject" if at == reds[0] else "accept",
        )
        for at in reds
    ])  # fmt: skip
    decided = build_of(build_here(changed(settings, decisions=str(file))).dataset)
    report = gather(decided)
    assert "1 rejected" in dict(report.facts)["decisions"]
    said = [row.precision for row in report.categories]
    assert said == ["75 % (30 to 95 %) of 4 looked at", "", ""]
    page = Path(write_report(decided)).read_text("utf-8")
    assert "right, of a random sample" in page
    assert said[0] in page
    assert "random sample" not in Path(write_report(build_of(built.dataset))).read_text("utf-8")


def test_the_same_build_gives_the_same_bytes(built, settings, tmp_path):
    first = Path(write_report(build_of(built.dataset))).read_bytes()
    there = tmp_path / "elsewhere"
    again = build_here(changed(settings, store=str(there)))
    assert Path(write_report(build_of(again.dataset))).read_bytes() == first


def test_a_page_that_is_there_is_left_alone(built):
    build = build_of(built.dataset)
    place = Path(write_if_new(build))
    written = place.stat().st_mtime_ns
    write_if_new(build)
    assert place.stat().st_mtime_ns == written
    place.write_bytes(place.read_bytes().replace(b"zutis-report", b"another"))
    write_if_new(build)
    assert b"zutis-report" in place.read_bytes()


def test_it_does_without_the_corpus(built, corpus):
    shutil.rmtree(corpus)
    assert len(gather(build_of(built.dataset)).galleries) == 3


def test_other_files_are_not_replaced(built, tmp_path):
    other = tmp_path / "thesis.html"
    other.write_text("years of work")
    with pytest.raises(ConfigError, match="no page of ours"):
        write_report(build_of(built.dataset), str(other))
    with pytest.raises(ConfigError, match="is a folder"):
        write_report(build_of(built.dataset), str(tmp_path))
    assert other.read_text() == "years of work"


def test_a_page_that_cannot_be_written_is_a_warning(built, settings):
    place = Path(default_place(build_of(built.dataset)))
    place.parent.mkdir()
    place.write_text("something else")
    told: list[str] = []
    assert report_at_end(built.dataset, told.append) == ""
    assert "no page of ours" in told[0]


def test_a_build_is_found_by_its_keys(built, settings):
    store = ArtifactStore(settings.store)
    for key in ("", "latest", built.dataset.key, built.dataset.key[:12], built.record.key):
        assert find_build(store, key).dataset.ref == built.dataset.ref
    with pytest.raises(ArtifactError, match="begins with"):
        find_build(store, "0" * 12)
    store.delete(built.record.ref)
    with pytest.raises(ArtifactError, match="no record of the build"):
        find_build(store)
