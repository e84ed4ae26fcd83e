"""Objects get names: a row for each object, the retrieval's facts where it named it."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.demo.settings import CLIP, SELFMASK
from flows.execution.executors import LocalExecutor
from flows.pipelines.build import Build, build
from flows.settings.build import BuildSettings
from made_world.corpus import write_corpus
from storage.artifacts.store import Artifact, ArtifactStore
from storage.errors.exceptions import ConfigError
from storage.images.masks import mask_id, mask_pixels
from tasks.naming.name_objects import COVERED, NO_CATEGORY, Config
from tasks.stage.layout import MASKS, NAMED_OBJECTS, RETRIEVAL
from tests.support.runs.builds import rows_of

KINDS = ("star", "house")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[ArtifactStore, Build]:
    folder: Path = tmp_path_factory.mktemp("named")
    write_corpus(folder, 8, 16, KINDS, world="hard")
    (folder / "kinds.txt").write_text("\n".join(KINDS), encoding="utf-8")
    settings = BuildSettings(
        corpus=(str(folder / "pictures"),), vocabulary=str(folder / "kinds.txt"), per_category=5,
        clip=CLIP, selfmask=SELFMASK, mask_size=96, objects="many", device="cpu",
        store=str(folder / "store"),
    )  # fmt: skip
    store = ArtifactStore(settings.store)
    return store, build(settings, LocalExecutor(store))


def named(built: tuple[ArtifactStore, Build]) -> Artifact:
    [artifact] = built[0].published("name_objects")
    return artifact


@pytest.mark.slow
def test_every_mask_of_the_kept_images_has_a_row(built):
    store, outcome = built
    kept = {row["image_id"] for row in rows_of(outcome.retrieval, RETRIEVAL) if row["kept"]}
    masks = {
        mask_id(row["image_id"], row["height"], row["width"], row["counts"]): row
        for artifact in store.published("make_masks")
        for row in rows_of(artifact, MASKS)
        if not row["reject_reason"]
    }
    rows = rows_of(named(built), NAMED_OBJECTS)
    assert {row["image_id"] for row in rows} <= kept
    assert [row["mask_id"] for row in rows] == [
        each for _, each in sorted((row["image_id"], each) for each, row in masks.items()
                                   if row["image_id"] in kept)
    ]  # fmt: skip
    objects: dict[str, list] = {}
    for row in rows:
        if row["reason"] != COVERED:
            objects.setdefault(row["image_id"], []).append(mask_pixels(masks[row["mask_id"]]))
    for found in objects.values():
        for at, mask in enumerate(found):
            assert all((mask & o).sum() < 0.6 * min(mask.sum(), o.sum()) for o in found[:at])


@pytest.mark.slow
def test_names_follow_the_least_probability_and_carry_the_retrievals_facts(built):
    _, outcome = built
    retrieved = {
        (row["image_id"], row["category_id"]): row
        for row in rows_of(outcome.retrieval, RETRIEVAL)
        if row["kept"]
    }
    rows = rows_of(named(built), NAMED_OBJECTS)
    for row in rows:
        assert row["category"] == KINDS[row["category_id"] - 1]
        assert (row["reason"] == NO_CATEGORY) <= (row["name_probability"] < Config().min_name)
        assert (row["reason"] == "") <= (row["name_probability"] >= Config().min_name)
        own = retrieved.get((row["image_id"], row["category_id"]))
        assert row["rank"] == (own["rank"] if own else None)
        assert row["score"] == (own["score"] if own else None)
    counts = named(built).counts
    assert counts["candidates"] == len(rows)
    assert counts["objects"] == sum(not row["reason"] for row in rows)
    assert counts["images_with_several"] >= 1


def test_the_least_probability_is_a_share():
    with pytest.raises(ConfigError, match="min_name"):
        Config(min_name=1.2)


@pytest.mark.slow
def test_the_builds_record_keeps_the_names(built):
    _, outcome = built
    assert named(built).key in str(outcome.record.manifest)
