"""Scenes side by side: the choice of scenes, the drawing, and the count of found objects."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from flows.demo.scenes import Thing, agreement, number_found, side_by_side
from flows.pipelines.training import Evaluated
from flows.settings.evaluation import EvaluationSettings
from storage.artifacts.store import Artifact
from tasks.evaluation.evaluate import INSTANCES
from tests.support.files.evaluation_layouts import annotation, box, write_coco

SIZE = (64, 80)


def rle(top: int, left: int, bottom: int, right: int) -> dict[str, Any]:
    mask = np.zeros(SIZE, dtype=np.uint8)
    mask[top:bottom, left:right] = 1
    encoded = coco_mask.encode(np.asfortranarray(mask))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode()}


def thing(label: int, *place: int, score: float | None = None) -> Thing:
    return Thing(name="abc"[label], label=label, rle=rle(*place), score=score)


@dataclass
class Published:
    rows: list[dict[str, Any]]

    def read_json(self, name: str) -> list[dict[str, Any]]:
        assert name == INSTANCES
        return self.rows


def evaluation(*rows: tuple[int, int, tuple[int, ...], float]) -> Artifact:
    """(image, category id of the file, place, score) of each instance."""
    published = [
        {"image_id": image, "category_id": own, "segmentation": rle(*place), "score": score}
        for image, own, place, score in rows
    ]
    return cast(Artifact, Published(published))


@pytest.fixture
def settings(tmp_path) -> EvaluationSettings:
    """Nine scenes with a star and a heart each, whose ids in the file are not their labels."""
    file = tmp_path / "annotations.json"
    things = [
        annotation(image, own, box(top, 5, top + 20, 35), area=600.0)
        for image in range(1, 10)
        for own, top in ((7, 5), (9, 35))
    ]
    pictures = {f"{number}.png": SIZE for number in range(1, 10)}
    write_coco(file, tmp_path, pictures, things, {7: "star", 9: "heart"})
    return EvaluationSettings(on=f"coco:{file}", image_size=64)


def test_a_thing_is_found_by_name_and_place_and_once():
    truth = [thing(1, 0, 0, 20, 20), thing(2, 30, 30, 50, 50)]
    assert number_found(truth, [thing(1, 0, 0, 20, 18), thing(2, 30, 30, 50, 50)]) == 2
    assert number_found(truth, [thing(2, 0, 0, 20, 20)]) == 0
    assert number_found(truth, [thing(1, 0, 0, 20, 20), thing(1, 0, 0, 20, 19)]) == 1
    assert number_found(truth, [thing(1, 0, 0, 9, 20)]) == 0
    assert number_found(truth, []) == number_found([], truth) == 0


def test_agreement_is_the_mean_over_what_is_there():
    truth = [thing(1, 0, 0, 20, 20), thing(2, 30, 30, 50, 50)]
    assert agreement(truth, [thing(1, 0, 0, 10, 20)]) == pytest.approx(0.25)
    assert agreement(truth, truth) == 1.0
    assert agreement(truth, []) == 0.0
    assert agreement([], []) == 1.0


def test_scenes_go_from_the_best_to_the_worst_and_are_chosen_by_no_one(settings):
    # The lower a scene's number, the better the network; the first three are equal.
    model = evaluation(
        *((image, 7, (5, 5, 25, 35 - 3 * max(0, image - 3)), 0.9) for image in range(1, 10))
    )
    scenes = side_by_side(Evaluated(model, evaluation()), settings)
    numbers = [int(scene.title.split()[1].rstrip(":")) for scene in scenes]
    assert numbers == [1, 3, 4, 6, 7, 9]
    assert side_by_side(Evaluated(model, evaluation()), settings) == scenes


def test_each_row_is_one_scene_in_four_views(settings):
    model = evaluation(
        (1, 9, (35, 5, 55, 35), 0.25), (1, 7, (5, 5, 25, 35), 0.75), (1, 7, (0, 50, 9, 70), 0.1)
    )
    baseline = evaluation((1, 7, (35, 5, 55, 35), 0.5))
    scene = side_by_side(Evaluated(model, baseline), settings)[0]
    assert scene.title == "Scene 1: MaskCLIP finds 0 of 2 things, ZUTIS 2"
    assert [(one.label, one.alt) for one in scene.panels] == [
        ("image", "scene 1"),
        ("truth", "truth, outlined: star, heart"),
        ("MaskCLIP (baseline)", "MaskCLIP (baseline), outlined: star 0.50"),
        # As many as there are true objects, by score.
        ("ZUTIS", "ZUTIS, outlined: star 0.75, heart 0.25"),
    ]
    pictures = [np.asarray(Image.open(io.BytesIO(one.image))) for one in scene.panels]
    assert len({picture.shape for picture in pictures}) == 1
    changed = [
        (np.abs(picture.astype(int) - pictures[0].astype(int)) > 60).mean() for picture in pictures
    ]
    assert changed[0] == 0
    assert min(changed[1:]) > 0.01


def test_a_model_that_finds_nothing_is_shown_with_nothing(settings):
    scene = side_by_side(Evaluated(evaluation(), evaluation()), settings)[0]
    assert scene.panels[3].alt == "ZUTIS, outlined: nothing"
    assert scene.panels[3].image == scene.panels[0].image
