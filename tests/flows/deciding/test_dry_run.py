"""A dry run says what the build then does, and writes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from flows.builds.found import FoundBuild, build_of
from flows.cli import exit_code_of, run_command_line
from flows.deciding.dry_run import DryRun, dry_run
from flows.deciding.reviewed import labels_to_review
from flows.settings.build import BuildSettings
from flows.settings.options import changed
from storage.decisions.decision import Decision, DrawnMask, now
from storage.decisions.decision_file import append_decisions
from storage.errors.exceptions import CorpusError
from storage.images.masks import run_lengths
from tests.support.runs.builds import (
    artifacts_by_stage,
    build_here,
    new_artifacts,
    unfinished_attempts,
)

pytestmark = pytest.mark.slow


@pytest.fixture
def settings(settings: BuildSettings) -> BuildSettings:
    return changed(settings, shard_mb=0.02)


def kinds(found: DryRun) -> list[str]:
    return sorted(change.kind for change in found.changes)


def follow(settings: BuildSettings, file: Path) -> tuple[FoundBuild, int]:
    """The build with the decisions, and how many shards were made."""
    before = artifacts_by_stage(settings.store)
    built = build_here(changed(settings, decisions=str(file)))
    made = new_artifacts(before, artifacts_by_stage(settings.store))
    return build_of(built.dataset), made.get("pack_shards", 0)


def test_it_says_what_the_build_does(settings, build, review, file) -> None:
    one = review()
    assert build.dataset.counts["shards"] >= 3
    one.decide(0, "reject")
    one.decide(1, "rename", "blue")
    one.decide(5, "several")
    one.decide(6, "accept")
    before = artifacts_by_stage(settings.store)
    found = dry_run(build, file)
    assert artifacts_by_stage(settings.store) == before
    assert unfinished_attempts(settings.store) == []
    assert kinds(found) == ["out", "renamed", "several"]
    assert found.samples == (12, 11)
    built, made = follow(settings, file)
    assert found.made_again == made
    assert found.shards == built.dataset.counts["shards"]
    assert found.decided == built.plan.counts["decided"]
    again = dry_run(built, file)
    assert (again.changes, again.made_again) == ((), 0)


def test_after_decisions_it_says_what_comes_back(settings, build, review, file) -> None:
    one = review()
    number = one.decide(0, "reject")
    one.decide(1, "several")
    built, _ = follow(settings, file)
    one.take_back(number)
    one.decide(1, "accept")
    found = dry_run(built, file)
    assert kinds(found) == ["in", "restored"]
    assert found.samples == (11, 12)
    _, made = follow(settings, file)
    assert made == 0, "the first build's shards are there still"
    assert found.made_again >= 1
    file.write_text("")
    assert dry_run(built, file).decided is None


def test_corrected_masks_and_other_rules(settings, file) -> None:
    build = build_of(build_here(changed(settings, duplicates="drop")).dataset)
    reviewed = labels_to_review(build)
    label = int(reviewed.drawn[0])
    image_id, name = reviewed.labels.image_id(label), reviewed.name_of(label)
    pixels = np.zeros((48, 40), dtype=np.bool_)
    pixels[3:20, 4:30] = True
    drawn = DrawnMask(48, 40, run_lengths(pixels)["counts"])
    append_decisions(file, [Decision(
        image_id=image_id, category=name, verdict="redraw", drawn=drawn, when=now()
    )])  # fmt: skip
    found = dry_run(build, file)
    assert kinds(found) == ["redrawn"]
    assert found.made_again == 1


def test_without_decisions_about_the_build_nothing_changes(build, file) -> None:
    append_decisions(
        file, [Decision(image_id="ab" * 32, category="red", verdict="reject", when=now())]
    )
    found = dry_run(build, file)
    assert (found.changes, found.made_again, found.elsewhere) == ((), 0, 1)


def test_with_all_labels_rejected_it_says_so(build, review, file) -> None:
    one = review()
    for label in range(12):
        one.decide(label, "reject")
    with pytest.raises(CorpusError, match="No label of 12 is left"):
        dry_run(build, file)


def test_the_command(settings, build, review, file, capsys) -> None:
    one = review()
    one.decide(0, "reject")
    words = ["decisions", "apply", "--store", settings.store, "--decisions", str(file)]
    run_command_line([*words, "--dry-run"])
    said = capsys.readouterr().out
    assert "1 out" in said
    assert "out, rejected" in said
    assert "11, now 12" in said
    assert "would be made again" in said
    run_command_line([*words, "--dry-run", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert [change["kind"] for change in told["changes"]] == ["out"]
    assert exit_code_of(lambda: run_command_line(words)) == 2
    assert "run the build's command again with --decisions" in " ".join(
        capsys.readouterr().err.split()
    )
