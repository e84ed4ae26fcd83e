"""Plans of masks: images that no vocabulary has had masked before."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.artifacts.store import Artifact
from storage.errors.exceptions import ArtifactError, ConfigError
from tasks.masking import plan_masks
from tasks.stage import planning
from tasks.stage.contract import plan_parts
from tasks.stage.layout import MASK_PLAN, MASKS
from tests.support.files.coloured_images import write_corpus
from tests.support.networks.fakes import FakeClip, FakeSelfMask
from tests.support.runs.builds import rows_of
from tests.support.runs.stages import Stages


@pytest.fixture
def index(stages: Stages, corpus: Path, fake_clip: FakeClip) -> Artifact:
    write_corpus(corpus, ["red", "green", "blue"], each=5)
    return stages.index(stages.scan(corpus))


def test_every_retrieved_image_is_planned_once(stages: Stages, index: Artifact) -> None:
    # Both categories want the same images.
    retrieval = stages.retrieve(index, ["red", "red"], 5, overlap="all")
    plan = stages.plan_masks(retrieval, stages.mask_config(), part_images=2)
    assert plan is not None
    ids = [row["image_id"] for row in rows_of(plan, MASK_PLAN)]
    assert len(ids) == len(set(ids)) == 5
    assert ids == sorted(ids)
    assert [part["items"] for part in plan_parts(plan)] == [2, 2, 1]


def test_another_vocabulary_masks_only_its_new_images(
    stages: Stages, index: Artifact, fake_selfmask: FakeSelfMask
) -> None:
    config = stages.mask_config()
    first = stages.plan_masks(stages.retrieve(index, ["red"], 5), config)
    assert first is not None
    stages.mask(first, config)
    again = stages.retrieve(index, ["a red thing"], 5)
    assert stages.plan_masks(again, config) is None
    more = stages.retrieve(index, ["green", "red"], 5)
    plan = stages.plan_masks(more, config)
    assert plan is not None
    names = {Path(row["uri"]).name for row in rows_of(plan, MASK_PLAN)}
    assert names == {f"green-{n:03d}.jpg" for n in range(5)}
    stages.mask(plan, config)
    assert fake_selfmask.calls["images"] == 10
    # With other settings these are other masks.
    assert stages.plan_masks(again, stages.mask_config(mask_size=48)) is not None


@pytest.mark.parametrize("lost", [0, 1, 2])
@pytest.mark.parametrize("part_images", [0, 4])
def test_the_rest_after_a_crash_is_cut_into_the_same_parts(
    lost: int,
    part_images: int,
    stages: Stages,
    index: Artifact,
    fake_selfmask: FakeSelfMask,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Sizes that the plan chooses grow with the images: here 4 for 15, as if these were many.
    monkeypatch.setattr(plan_masks, "_SMALLEST_PART", 1)
    monkeypatch.setattr(planning, "_MOST_PARTS", 4)
    config = stages.mask_config()
    retrieval = stages.retrieve(index, ["red", "green", "blue"], 5)
    before = stages.plan_masks(retrieval, config, part_images)
    assert before is not None
    parts = plan_parts(before)
    assert [part["items"] for part in parts] == [4, 4, 4, 3]
    for part in set(range(len(parts))) - {lost, 3}:
        stages.mask(before, config, part)
    after = stages.plan_masks(retrieval, config, part_images)
    assert after is not None
    assert plan_parts(after) == [parts[lost], parts[3]]


def test_damaged_masks_are_not_planned_around(
    stages: Stages, index: Artifact, fake_selfmask: FakeSelfMask
) -> None:
    config = stages.mask_config()
    retrieval = stages.retrieve(index, ["red"], 5)
    plan = stages.plan_masks(retrieval, config)
    assert plan is not None
    path = stages.mask(plan, config).local_path(MASKS)
    assert path is not None
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=r"masks\.parquet.*--repair"):
        stages.plan_masks(retrieval, config)


def test_part_images_must_not_be_negative() -> None:
    with pytest.raises(ConfigError, match="mask_part_images is -1"):
        plan_masks.Config(masks_prefix="", part_images=-1)
