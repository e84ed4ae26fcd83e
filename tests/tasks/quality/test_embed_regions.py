"""Regions of masks: measured once for all vocabularies, and the same every time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from storage.embeddings.parts import open_embeddings
from tasks.quality import embed_regions, plan_regions
from tasks.quality.measured_regions import load_regions
from tasks.quality.region_measuring import VECTORS
from tasks.quality.source_masks import mask_rows
from tasks.stage.contract import PartOfPlan, SilentProgress, plan_parts
from tasks.stage.layout import REGION_PLAN, REGION_VECTORS, REGIONS
from tests.support.runs.builds import rows_of

pytestmark = pytest.mark.slow


def test_every_usable_mask_has_a_region_with_its_vectors(measured_build):
    images = [row["image_id"] for row in rows_of(measured_build.plan, REGION_PLAN)]
    masks = mask_rows({ref.key for ref in measured_build.masks}, images, measured_build.store)
    assert masks.keys() == set(images)
    wanted = {row["mask_id"] for rows in masks.values() for row in rows}
    rows, vectors = load_regions(measured_build.regions, list(masks), measured_build.store)
    assert set(rows["mask_id"].to_pylist()) == wanted
    assert vectors.shape[:2] == (len(wanted), len(VECTORS))
    lengths = np.linalg.norm(vectors.astype(np.float32), axis=-1)
    assert lengths[:, :2] == pytest.approx(1, abs=1e-2), "views are of unit norm"
    assert np.all(lengths[:, 2:] <= 1 + 1e-2), "means are not longer"
    for name in ("stability", "refiner_agreement", "area", "solidity"):
        assert 0 <= min(rows[name].to_pylist()) <= max(rows[name].to_pylist()) <= 1


def test_parts_hold_what_the_plan_says(measured_build):
    parts = plan_parts(measured_build.plan)
    planned = rows_of(measured_build.plan, REGION_PLAN)
    for number, ref in enumerate(measured_build.regions):
        measured = rows_of(measured_build.store.get(ref), REGIONS)
        assert len(measured) == parts[number]["items"]
        of_part = [row["image_id"] for row in planned if row["part"] == number]
        assert [row["image_id"] for row in measured] == of_part


def test_what_is_measured_is_not_planned_again(measured_build):
    again = plan_regions.run(
        plan_regions.Config(regions_prefix=measured_build.config.recipe.prefix, part_images=12),
        plan_regions.Inputs(measured_build.build.retrieval.ref, measured_build.masks),
        measured_build.store,
        SilentProgress(),
    )
    assert again is None


def test_another_number_of_threads_measures_the_same(measured_build):
    store, first = measured_build.store, measured_build.regions[0]
    known = np.array(open_embeddings(store.get(first), REGION_VECTORS))
    rows = rows_of(store.get(first), REGIONS)
    again = embed_regions.run(
        replace(measured_build.config, threads=1),
        PartOfPlan(measured_build.plan.ref, 0),
        store,
        SilentProgress(),
    )
    assert again.ref == first
    assert np.array_equal(np.array(open_embeddings(again, REGION_VECTORS)), known)
    assert rows_of(again, REGIONS) == rows


def test_another_clip_is_another_recipe(measured_build):
    other = replace(measured_build.config, batch_size=2)
    assert other.recipe.prefix != measured_build.config.recipe.prefix
    assert replace(measured_build.config, threads=3).recipe == measured_build.config.recipe
