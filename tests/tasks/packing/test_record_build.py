"""The record of a build, from which all its artifacts are found."""

from __future__ import annotations

from pathlib import Path

from storage.artifacts.store import ArtifactRef
from tasks.packing.record_build import used_artifacts
from tests.support.files.coloured_images import write_corpus
from tests.support.networks.fakes import FakeClip, FakeSelfMask
from tests.support.runs.builds import artifacts_by_stage, build_here, settings_of, write_vocabulary


def test_a_record_refers_to_everything_but_plans_of_masks(
    tmp_path: Path, fake_clip: FakeClip, fake_selfmask: FakeSelfMask
) -> None:
    write_corpus(tmp_path / "corpus", ["red", "blue"], each=4)
    vocabulary = write_vocabulary(tmp_path / "v.txt", ["red", "blue"])
    built = build_here(settings_of(tmp_path / "corpus", vocabulary, tmp_path / "store"))
    stages = artifacts_by_stage(tmp_path / "store")
    stages.pop("plan_masks")  # spent when the masks are made
    everything = {ArtifactRef(stage, key) for stage, keys in stages.items() for key in keys}
    assert used_artifacts(built.record) == everything
    assert built.record.counts == {"samples": 8, "categories": 2}
    assert built.record.notes["corpus"] == [str(tmp_path / "corpus")]
    assert "untrained" in built.record.notes["weights"]
