"""Builds that follow decisions: what changes, what is said, and that nothing else is made again."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.pipelines.build import Build
from flows.settings.build import BuildSettings
from flows.settings.options import changed
from flows.summaries.build import summarise
from storage.decisions.decision import Decision, DrawnMask
from storage.decisions.decision_file import append_decisions
from storage.errors.exceptions import CorpusError, StorageError
from storage.images.masks import mask_id, run_lengths
from storage.shards.samples import ShardSamples
from tasks.packing.record_build import used_artifacts
from tasks.stage.layout import CARD, CHOSEN_LABELS
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

pytestmark = pytest.mark.slow

NAMES = ["red", "green", "blue"]
_seconds = count()


@pytest.fixture
def settings(tmp_path: Path, fake_clip: FakeClip, fake_selfmask: FakeSelfMask) -> BuildSettings:
    write_corpus(tmp_path / "corpus", NAMES, each=8)
    vocabulary = write_vocabulary(tmp_path / "v.txt", NAMES)
    return settings_of(
        tmp_path / "corpus", vocabulary, tmp_path / "store", per_category=8, shard_mb=0.03
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "decisions.jsonl"


def facts_of(built: Build) -> dict[str, dict[str, Any]]:
    """The JSON of each sample, by image_id."""
    samples = ShardSamples.open(built.dataset)
    return {samples.key(at): json.loads(samples.read(at).facts) for at in range(len(samples))}


def mask_of(facts: dict[str, Any]) -> str:
    return mask_id(facts["image_id"], *facts["mask"]["size"], facts["mask"]["counts"])


def decide(file: Path, facts: dict[str, Any], verdict: str, **more: Any) -> None:
    """Decide about a sample's first label."""
    label = facts["categories"][0]
    when = datetime(2030, 1, 31, tzinfo=UTC) + timedelta(seconds=next(_seconds))
    given = {"image_id": facts["image_id"], "category": label["name"], "mask": mask_of(facts)}
    append_decisions(file, [Decision(verdict=verdict, when=when, **(given | more))])


def with_decisions(settings: BuildSettings, file: Path) -> BuildSettings:
    return changed(settings, decisions=str(file))


def shard_digests(built: Build) -> set[str]:
    return {entry["sha256"] for name, entry in built.dataset.files.items() if ".tar" in name}


def labels_of(built: Build) -> dict[str, list[str]]:
    return {
        image_id: [label["name"] for label in facts["categories"]]
        for image_id, facts in facts_of(built).items()
    }


def card_of(built: Build) -> str:
    return built.dataset.open(CARD).read().decode()


def drawn(facts: dict[str, Any], value: tuple[slice, slice]) -> DrawnMask:
    """A mask with a box of pixels."""
    height, width = facts["mask"]["size"]
    pixels = np.zeros((height, width), dtype=np.bool_)
    pixels[value] = True
    return DrawnMask(height, width, run_lengths(pixels)["counts"])


BOX = (slice(1, 9), slice(2, 12))


def test_a_rejected_label_leaves_and_its_record_says_why(
    settings: BuildSettings, file: Path
) -> None:
    plain = build_here(settings)
    one = next(iter(facts_of(plain).values()))
    decide(file, one, "reject", who="Ana")
    built = build_here(with_decisions(settings, file))
    assert facts_of(plain).keys() - facts_of(built).keys() == {one["image_id"]}
    assert built.chosen is not None
    reasons = {row["image_id"]: row["reason"] for row in rows_of(built.chosen, CHOSEN_LABELS)}
    assert {name: reason for name, reason in reasons.items() if reason} == {
        one["image_id"]: "rejected"
    }
    assert built.shard_plan.counts["decided"]["rejected"] == 1
    assert "1 rejected" in summarise(built, []).facts["decisions"]
    assert "1 rejected" in card_of(built)
    assert built.decided is not None
    assert built.decided.ref in used_artifacts(built.record)


def test_one_decision_makes_exactly_one_shard_again(settings: BuildSettings, file: Path) -> None:
    plain = build_here(settings)
    assert plain.dataset.counts["shards"] >= 4
    for verdict, more in (("several", {}), ("redraw", {"drawn": BOX})):
        before = artifacts_by_stage(settings.store)
        facts = list(facts_of(plain).values())
        one = facts[0] if verdict == "several" else facts[-1]
        decide(file, one, verdict, **({"drawn": drawn(one, BOX)} if more else {}))
        previous = build_here(with_decisions(settings, file))
        new = new_artifacts(before, artifacts_by_stage(settings.store))
        assert new.pop("pack_shards") == 1
        assert set(new) == {
            "import_decisions", "choose_labels", "plan_shards", "assemble_dataset", "record_build",
        }  # fmt: skip
        assert len(shard_digests(previous) - shard_digests(plain)) <= 2
    before = artifacts_by_stage(settings.store)
    build_cached(with_decisions(settings, file))
    assert artifacts_by_stage(settings.store) == before


def test_decisions_that_change_nothing_here_change_no_key(
    settings: BuildSettings, file: Path
) -> None:
    plain = build_here(settings)
    one = next(iter(facts_of(plain).values()))
    decide(file, one | {"image_id": "ab" * 32}, "reject")
    built = build_cached(with_decisions(settings, file))
    assert built.dataset.ref == plain.dataset.ref
    assert (
        "1 about images that the build has not retrieved"
        in (summarise(built, []).facts["decisions"])
    )
    file.write_text("")
    assert build_cached(with_decisions(settings, file)).dataset.ref == plain.dataset.ref


def test_who_and_when_and_what_is_overruled_change_no_key(
    settings: BuildSettings, file: Path
) -> None:
    one = next(iter(facts_of(build_here(settings)).values()))
    decide(file, one, "reject", who="Ana")
    first = build_here(with_decisions(settings, file))
    decide(file, one, "accept", who="Bo")
    decide(file, one, "reject", who="Bo")
    decide(file, one | {"image_id": "ab" * 32}, "reject")
    assert build_cached(with_decisions(settings, file)).dataset.ref == first.dataset.ref


def test_accepting_changes_no_sample(settings: BuildSettings, file: Path) -> None:
    plain = build_here(settings)
    for one in facts_of(plain).values():
        decide(file, one, "accept")
    assert shard_digests(build_here(with_decisions(settings, file))) == shard_digests(plain)


def test_a_renamed_label_has_its_new_category_everywhere(
    settings: BuildSettings, file: Path
) -> None:
    plain = build_here(settings)
    one = next(f for f in facts_of(plain).values() if f["categories"][0]["name"] == "red")
    decide(file, one, "rename", to="blue")
    built = build_here(with_decisions(settings, file))
    found = facts_of(built)[one["image_id"]]
    assert found["label"] == 3
    [label] = found["categories"]
    assert (label["category_id"], label["name"]) == (3, "blue")
    assert label["rank"] is None
    assert label["score"] is None
    assert found["decisions"] == [{"category_id": 3, "was": "red"}]
    assert found["mask"] == one["mask"]
    samples = ShardSamples.open(built.dataset)
    [at] = [at for at in range(len(samples)) if samples.key(at) == one["image_id"]]
    values = np.unique(samples.decode_labels(at, samples.read(at).mask))
    assert set(values.tolist()) == {0, 3}
    masked = {row["name"]: row["masked"] for row in built.shard_plan.counts["categories"]}
    before = {row["name"]: row["masked"] for row in plain.shard_plan.counts["categories"]}
    assert masked == before | {"red": before["red"] - 1, "blue": before["blue"] + 1}


def test_a_category_that_the_vocabulary_lacks_leaves_the_label_out(
    settings: BuildSettings, file: Path
) -> None:
    one = next(iter(facts_of(build_here(settings)).values()))
    decide(file, one, "rename", to="mauve")
    built = build_here(with_decisions(settings, file))
    assert one["image_id"] not in facts_of(built)
    assert built.shard_plan.counts["decided"]["other_category"] == 1
    assert built.chosen is not None
    assert built.chosen.counts["left_out"] == {"other_category": 1}


def test_a_corrected_mask_takes_the_place_of_the_mask(settings: BuildSettings, file: Path) -> None:
    plain = build_here(settings)
    one = next(iter(facts_of(plain).values()))
    decide(file, one, "redraw", drawn=drawn(one, BOX))
    built = build_here(with_decisions(settings, file))
    found = facts_of(built)[one["image_id"]]
    samples = ShardSamples.open(built.dataset)
    [at] = [at for at in range(len(samples)) if samples.key(at) == one["image_id"]]
    labels = samples.decode_labels(at, samples.read(at).mask)
    expected = np.zeros_like(labels)
    expected[BOX] = one["label"]
    assert np.array_equal(labels, expected)
    assert found["area"] == pytest.approx(80 / labels.size)
    assert found["components"] == 1
    assert found["objectness"] is None
    assert found["decisions"] == [{"category_id": one["label"], "first_mask": mask_of(one)}]
    decide(file, found, "reject")
    assert one["image_id"] not in facts_of(build_here(with_decisions(settings, file)))


def test_a_mask_of_another_size_is_counted_and_left_alone(
    settings: BuildSettings, file: Path
) -> None:
    plain = build_here(settings)
    one = next(iter(facts_of(plain).values()))
    decide(file, one, "redraw", drawn=DrawnMask(2, 3, "132"))
    built = build_here(with_decisions(settings, file))
    assert built.shard_plan.counts["decided"]["wrong_size"] == 1
    assert facts_of(built)[one["image_id"]]["mask"] == one["mask"]
    assert "1 of another size than their image" in summarise(built, []).facts["decisions"]


def test_decisions_about_other_masks_and_categories_are_counted(
    settings: BuildSettings, file: Path
) -> None:
    plain = build_here(settings)
    one = next(iter(facts_of(plain).values()))
    decide(file, one, "reject", mask="ab" * 16)
    decide(file, one, "reject", category="mauve")
    built = build_here(with_decisions(settings, file))
    assert facts_of(built).keys() == facts_of(plain).keys()
    assert built.shard_plan.counts["decided"]["stale"] == 2
    assert "2 about labels that the build does not have" in summarise(built, []).facts["decisions"]


def test_precision_is_estimated_from_random_samples_alone(
    settings: BuildSettings, file: Path
) -> None:
    plain = build_here(settings)
    red = [f for f in facts_of(plain).values() if f["categories"][0]["name"] == "red"]
    for number, one in enumerate(red):
        sample = 7 if number < 7 else 0
        decide(file, one, "accept" if number < 6 else "reject", sample=sample)
    built = build_here(with_decisions(settings, file))
    [estimate] = built.shard_plan.counts["decided"]["precision"]
    assert (estimate["category_id"], estimate["right"], estimate["looked_at"]) == (1, 6, 7)
    assert estimate["low"] < 6 / 7 < estimate["high"]
    assert "red: 86 % (49 to 97 %) of 7 looked at" in card_of(built)
    assert "86 %" in summarise(built, []).facts["precision"]


def test_with_all_labels_rejected_it_is_one_sentence(settings: BuildSettings, file: Path) -> None:
    for one in facts_of(build_here(settings)).values():
        decide(file, one, "reject")
    with pytest.raises(CorpusError, match=r"No label of 24 is left \(24 rejected\): .*--decisions"):
        build_here(with_decisions(settings, file))


def test_bad_files_stop_the_build_before_any_work(settings: BuildSettings, file: Path) -> None:
    with pytest.raises(StorageError, match="decisions"):
        build_here(with_decisions(settings, file))
    file.write_text("accept\n")
    with pytest.raises(CorpusError, match=r"Line 1 of .* is no decision"):
        build_here(with_decisions(settings, file))
    assert artifacts_by_stage(settings.store) == {}


def test_with_several_labels_an_image_only_the_decided_one_changes(
    settings: BuildSettings, file: Path, tmp_path: Path
) -> None:
    vocabulary = write_vocabulary(tmp_path / "w.txt", ["blue", "red and grey", "red"])
    settings = changed(settings, vocabulary=str(vocabulary), overlap="all")
    plain = build_here(settings)
    several = [one for one in facts_of(plain).values() if len(one["categories"]) == 2]
    assert len(several) >= 2, "a test of nothing"
    gone, merged = several[:2]
    decide(file, gone, "reject")
    other = merged["categories"][1]["name"]
    decide(file, merged, "rename", to=other)
    found = labels_of(build_here(with_decisions(settings, file)))
    assert found[gone["image_id"]] == [gone["categories"][1]["name"]]
    assert found[merged["image_id"]] == [other]
