"""The evaluation: perfect predictions score one, others what pycocotools and counts give."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy import ndimage

from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.errors.exceptions import ConfigError, CorpusError, ZutisError
from storage.evaluation_sets.opening import EvaluationImage, EvaluationSet, open_evaluation_set
from storage.images.records import write_parquet
from storage.vocabularies.vocabulary import Category
from tasks.evaluation import evaluate
from tasks.evaluation.evaluate import INSTANCES, METRICS, PER_CLASS, SHEET, Config, Inputs
from tasks.prediction.segmenter import InstanceSettings, Segmentation
from tasks.stage.contract import SilentProgress
from tests.support.runs.builds import clip
from zutis_model.zutis.instance_prediction import Instances

GREY, RED, GREEN = (40, 40, 40), (240, 40, 40), (40, 240, 40)
NAMES = ("red thing", "green thing")
# Rectangles of an image: label, top, left, bottom, right.
IMAGES: list[tuple[tuple[int, int], list[tuple[int, int, int, int, int]]]] = [
    ((40, 50), [(1, 5, 5, 25, 20), (2, 5, 30, 30, 45)]),
    ((60, 44), [(1, 10, 4, 50, 40)]),
    ((48, 48), [(2, 4, 4, 20, 44), (2, 28, 4, 44, 30), (1, 26, 34, 46, 46)]),
]


def label_map(size: tuple[int, int], boxes: list[tuple[int, int, int, int, int]]) -> np.ndarray:
    labels = np.zeros(size, dtype=np.int64)
    for label, top, left, bottom, right in boxes:
        labels[top:bottom, left:right] = label
    return labels


def paint(labels: np.ndarray) -> np.ndarray:
    return np.array([GREY, RED, GREEN], dtype=np.uint8)[np.minimum(labels, 2)]


def regions(labels: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """(label, mask) of every connected region."""
    found = []
    for label in range(1, int(labels.max(initial=0)) + 1):
        numbered, count = ndimage.label(labels == label)
        found += [(label, numbered == number) for number in range(1, count + 1)]
    return found


def encode(mask: np.ndarray) -> dict[str, Any]:
    encoding = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": list(encoding["size"]), "counts": encoding["counts"].decode("ascii")}


class ColourSegmenter:
    """Predicts labels from colours, changed by `answer`. `seen` counts images."""

    untrained = False

    def __init__(self, answer: Callable[[np.ndarray], np.ndarray] = lambda labels: labels) -> None:
        self._answer = answer
        self.seen = 0

    def segment(self, pixels: np.ndarray) -> Segmentation:
        self.seen += 1
        colours = np.array([GREY, RED, GREEN])
        distances = np.abs(pixels[:, :, None].astype(int) - colours).sum(axis=3)
        labels = self._answer(distances.argmin(axis=2).astype(np.int64))
        found = regions(labels)
        masks = np.array([mask for _, mask in found], dtype=bool).reshape(-1, *labels.shape)
        return Segmentation(
            labels=labels,
            instances=Instances(
                category_ids=torch.tensor([label for label, _ in found], dtype=torch.int64),
                scores=torch.linspace(0.9, 0.5, len(found)),
                masks=torch.from_numpy(masks),
                boxes=torch.zeros(len(found), 4),
            ),
        )


def swap(labels: np.ndarray) -> np.ndarray:
    """Half wrong: green is taken for red on the left half of the image."""
    wrong = labels.copy()
    left = wrong[:, : labels.shape[1] // 2]
    left[left == 2] = 1
    return wrong


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Images, label maps, names, and the same as COCO JSON."""
    folder = tmp_path / "data"
    images, annotations = [], []
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for number, (size, boxes) in enumerate(IMAGES, start=1):
        labels = label_map(size, boxes)
        Image.fromarray(paint(labels)).save(folder / "images" / f"{number}.png")
        Image.fromarray(labels.astype(np.uint8)).save(folder / "labels" / f"{number}.png")
        images.append(
            {"id": 10 * number, "file_name": f"{number}.png", "height": size[0], "width": size[1]}
        )
        for label, mask in regions(labels):
            annotations.append({"id": len(annotations) + 1, "image_id": 10 * number,
                                "category_id": label, "segmentation": encode(mask),
                                "area": int(mask.sum()), "iscrowd": 0})  # fmt: skip
    (folder / "names.txt").write_text("\n".join(NAMES) + "\n")
    (folder / "coco.json").write_text(json.dumps({
        "images": images, "annotations": annotations,
        "categories": [{"id": n, "name": name} for n, name in enumerate(NAMES, start=1)],
    }))  # fmt: skip
    return folder


def coco_spec(data: Path) -> str:
    return f"coco:{data}/coco.json@{data}/images"


def folder_spec(data: Path) -> str:
    return f"folder:{data}/images+{data}/labels"


def rewrite(data: Path, change: Callable[[dict[str, Any]], object]) -> None:
    annotations = json.loads((data / "coco.json").read_text())
    change(annotations)
    (data / "coco.json").write_text(json.dumps(annotations))


def config_of(spec: str, **settings: Any) -> Config:
    if "evaluation_digest" not in settings:
        settings["evaluation_digest"] = open_evaluation_set(spec, None).digest()
    return Config(
        **{"method": "zutis", "clip": clip(), "evaluation_set": spec, "checkpoint": "model.pt",
           "checkpoint_digest": "ab" * 32} | settings
    )  # fmt: skip


@dataclass
class Evaluation:
    """Evaluates with a segmenter of colours in place of the network."""

    store: ArtifactStore
    monkeypatch: pytest.MonkeyPatch

    def __call__(
        self, spec: str, segmenter: ColourSegmenter | None = None, **settings: Any
    ) -> Artifact:
        used = segmenter or ColourSegmenter()
        self.monkeypatch.setattr(evaluate, "zutis_segmenter", lambda *args, **kwargs: used)
        self.monkeypatch.setattr(evaluate, "maskclip_segmenter", lambda *args, **kwargs: used)
        return evaluate.run(config_of(spec, **settings), Inputs(), self.store, SilentProgress())


@pytest.fixture
def evaluation(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> Evaluation:
    return Evaluation(store, monkeypatch)


def metrics_of(artifact: Artifact) -> dict[str, Any]:
    metrics: dict[str, Any] = artifact.read_json(METRICS)
    return metrics


def classes_of(artifact: Artifact) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in metrics_of(artifact)["classes"]}


def test_perfect_answers_score_one(evaluation: Evaluation, data: Path) -> None:
    artifact = evaluation(coco_spec(data))
    metrics = metrics_of(artifact)
    semantic, instance = metrics["semantic"], metrics["instance"]
    for name in ("mean_iou_with_background", "mean_iou_without_background", "background_iou",
                 "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou"):  # fmt: skip
        assert semantic[name] == 1
    for scores in (instance["by_category"], instance["class_agnostic"]):
        for name in ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ar_100"):
            assert scores[name] == pytest.approx(1, abs=1e-12), name
        assert scores["ap_large"] is None
    assert (semantic["images"], instance["images"], instance["objects"]) == (3, 3, 6)
    assert set(artifact.files) == {METRICS, PER_CLASS, INSTANCES, SHEET}
    assert artifact.counts == {"images": 3, "mean_iou": 1.0, "ap": pytest.approx(1)}


def test_wrong_predictions_have_the_scores_of_counted_pixels(
    evaluation: Evaluation, data: Path
) -> None:
    artifact = evaluation(coco_spec(data), ColourSegmenter(swap))
    truth = [label_map(*image) for image in IMAGES]
    labels = np.concatenate([labels.ravel() for labels in truth])
    answers = np.concatenate([swap(labels).ravel() for labels in truth])
    iou = [
        ((labels == k) & (answers == k)).sum() / ((labels == k) | (answers == k)).sum()
        for k in range(3)
    ]
    assert iou[0] == 1
    assert 0.2 < min(iou[1:]) < 0.9
    semantic = metrics_of(artifact)["semantic"]
    assert semantic["mean_iou_with_background"] == pytest.approx(np.mean(iou), abs=1e-12)
    assert semantic["mean_iou_without_background"] == pytest.approx(np.mean(iou[1:]), abs=1e-12)
    assert semantic["background_iou"] == 1
    assert semantic["pixel_accuracy"] == pytest.approx((labels == answers).mean(), abs=1e-12)
    rows = classes_of(artifact)
    assert [rows[name]["iou"] for name in NAMES] == pytest.approx(iou[1:], abs=1e-12)
    assert rows["green thing"]["accuracy"] == pytest.approx(
        (answers[labels == 2] == 2).mean(), abs=1e-12
    )
    assert rows["red thing"]["pixels"] == (labels == 1).sum()
    assert rows["red thing"]["predicted_pixels"] == (answers == 1).sum()


def by_pycocotools(annotations: Path, results: Path, *, agnostic: bool = False) -> list[float]:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        run = COCOeval(truth, truth.loadRes(str(results)), "segm")
        run.params.useCats = int(not agnostic)
        run.evaluate()
        run.accumulate()
        run.summarize()
    return [None if value == -1 else float(value) for value in run.stats]


def test_instance_scores_are_those_of_pycocotools_on_the_published_predictions(
    evaluation: Evaluation, data: Path
) -> None:
    artifact = evaluation(coco_spec(data), ColourSegmenter(swap))
    published = Path(artifact.uri(INSTANCES))
    for name, agnostic in (("by_category", False), ("class_agnostic", True)):
        expected = by_pycocotools(data / "coco.json", published, agnostic=agnostic)
        ours = list(metrics_of(artifact)["instance"][name].values())
        assert 0.05 < expected[0] < 0.99
        assert ours == pytest.approx(expected, abs=1e-12)
    row = json.loads(published.read_text())[0]
    assert set(row) == {"image_id", "category_id", "segmentation", "score"}
    assert row["image_id"] == 10


def test_published_predictions_have_the_ids_of_the_data_set(
    evaluation: Evaluation, data: Path
) -> None:
    def number(annotations: dict[str, Any]) -> None:
        # Gaps, and an order of their own: the second category of the file has the lower id.
        ids = {1: 20, 2: 7}
        for category in annotations["categories"]:
            category["id"] = ids[category["id"]]
        for row in annotations["annotations"]:
            row["category_id"] = ids[row["category_id"]]

    rewrite(data, number)
    # Green is the set's first category now.
    segmenter = ColourSegmenter(lambda labels: np.array([0, 2, 1])[swap(labels)])
    artifact = evaluation(coco_spec(data), segmenter)
    expected = by_pycocotools(data / "coco.json", Path(artifact.uri(INSTANCES)))
    ours = list(metrics_of(artifact)["instance"]["by_category"].values())
    assert 0.05 < ours[0] < 0.99
    assert ours == pytest.approx(expected, abs=1e-12)
    assert {row["category_id"] for row in artifact.read_json(INSTANCES)} == {7, 20}
    assert metrics_of(artifact)["evaluation_set"]["category_ids"] == [7, 20]


def test_crowds_and_images_without_objects_are_handled_as_coco_does(
    evaluation: Evaluation, data: Path
) -> None:
    def change(annotations: dict[str, Any]) -> None:
        rows = annotations["annotations"]
        rows[0]["iscrowd"] = 1
        annotations["annotations"] = [row for row in rows if row["image_id"] != 20]

    rewrite(data, change)
    artifact = evaluation(coco_spec(data))
    instance = metrics_of(artifact)["instance"]
    expected = by_pycocotools(data / "coco.json", Path(artifact.uri(INSTANCES)))
    assert list(instance["by_category"].values()) == pytest.approx(expected, abs=1e-12)
    assert (instance["images"], instance["objects"], instance["predictions"]) == (3, 4, 6)
    # Unannotated pixels are background.
    labels = np.concatenate([label_map(*IMAGES[n]).ravel() for n in (0, 2)])
    red = (labels == 1).sum()
    extra = label_map(*IMAGES[1]).sum()
    assert classes_of(artifact)["red thing"]["iou"] == pytest.approx(red / (red + extra))


def test_names_and_prompts_are_published_with_the_scores(
    evaluation: Evaluation, data: Path
) -> None:
    categories = (
        Category(name="crimson", synonyms=("scarlet",)),
        Category(name="verdant", prompts=("a {} leaf", "grass")),
    )
    artifact = evaluation(coco_spec(data), categories=categories)
    metrics = metrics_of(artifact)
    assert metrics["names"] == ["background", "crimson", "verdant"]
    assert metrics["prompts"] == [
        ["background"], ["crimson", "scarlet"], ["a verdant leaf", "grass"]
    ]  # fmt: skip
    assert metrics["evaluation_set"]["categories"] == list(NAMES)
    rows = list(csv.DictReader(io.StringIO(artifact.open(PER_CLASS).read().decode())))
    assert [row["name"] for row in rows] == ["background", *NAMES]
    assert rows[2]["prompts"] == "a verdant leaf\ngrass"
    assert float(rows[1]["iou"]) == 1


def test_the_baseline_uses_prompt_templates(evaluation: Evaluation, data: Path) -> None:
    artifact = evaluation(coco_spec(data), method="maskclip", checkpoint="", checkpoint_digest="")
    metrics = metrics_of(artifact)
    assert len(metrics["prompts"][1]) == 85
    assert "a photo of a red thing." in metrics["prompts"][1]
    assert metrics["model"]["label"].startswith("MaskCLIP (")
    assert metrics["settings"]["instances"] == {"min_score": 0.0}


def test_equal_inputs_give_equal_bytes(evaluation: Evaluation, data: Path, tmp_path: Path) -> None:
    first = evaluation(coco_spec(data), ColourSegmenter(swap))
    evaluation.store = ArtifactStore(str(tmp_path / "other"))
    second = evaluation(coco_spec(data), ColourSegmenter(swap))
    assert first.ref == second.ref
    assert first.files == second.files


def test_label_maps_alone_give_semantic_scores_alone(evaluation: Evaluation, data: Path) -> None:
    artifact = evaluation(folder_spec(data))
    metrics = metrics_of(artifact)
    assert metrics["semantic"]["mean_iou_with_background"] == 1
    assert metrics["instance"] is None
    assert INSTANCES not in artifact.files
    assert artifact.counts == {"images": 3, "mean_iou": 1.0}


@dataclass(frozen=True)
class Hidden:
    """The ground truth of another reader without one of its parts."""

    truth: Any
    without: str

    @property
    def size(self) -> tuple[int, int]:
        return self.truth.size

    def labels(self) -> np.ndarray | None:
        return None if "labels" in self.without else self.truth.labels()

    def instances(self) -> list | None:
        return None if "instances" in self.without else self.truth.instances()

    def digest(self) -> str:
        return self.truth.digest() + self.without


def hide(data: Path, without: str, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Make the stage open a set without some of its ground truth."""
    whole = open_evaluation_set(coco_spec(data), None)
    images = tuple(
        replace(image, ground_truth=Hidden(image.ground_truth, without)) for image in whole.images
    )
    partial = EvaluationSet(
        **{"name": "partial", "categories": whole.categories, "images": images} | changes
    )
    monkeypatch.setattr(evaluate, "open_evaluation_set", lambda *_, **__: partial)


def evaluate_hidden(
    evaluation: Evaluation, segmenter: ColourSegmenter | None = None, **settings: Any
) -> Artifact:
    digest = evaluate.open_evaluation_set("partial", None).digest()
    return evaluation("partial", segmenter, evaluation_digest=digest, **settings)


def test_objects_alone_give_instance_scores_alone(
    evaluation: Evaluation, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(data, "labels", monkeypatch)
    artifact = evaluate_hidden(evaluation)
    metrics = metrics_of(artifact)
    assert metrics["semantic"] is None
    assert metrics["instance"]["by_category"]["ap"] == pytest.approx(1)
    assert Image.open(io.BytesIO(artifact.open(SHEET).read())).height > 3 * 320


def test_imagenet_s_is_also_scored_by_its_own_rules(
    evaluation: Evaluation, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(data, "instances", monkeypatch, scoring="imagenet-s", categories=(*NAMES, "absent"))
    semantic = metrics_of(evaluate_hidden(evaluation))["semantic"]
    assert semantic["mean_iou_with_background"] == 1
    assert semantic["imagenet_s"]["mean_iou"] == 0.75
    assert semantic["imagenet_s"]["image_accuracy"] == 1
    assert semantic["imagenet_s"]["f_measure"] == 1


def test_seen_and_unseen_categories_are_scored_apart(evaluation: Evaluation, data: Path) -> None:
    whole = evaluation(coco_spec(data), ColourSegmenter(swap))
    artifact = evaluation(coco_spec(data), ColourSegmenter(swap), seen_categories=("green thing",))
    assert artifact.ref != whole.ref
    rows, metrics = classes_of(artifact), metrics_of(artifact)
    seen, unseen = rows["green thing"]["iou"], rows["red thing"]["iou"]
    assert metrics["semantic"]["seen"] == {"categories": 1, "mean_iou": pytest.approx(seen)}
    assert metrics["semantic"]["unseen"]["mean_iou"] == pytest.approx(unseen)
    harmonic = 2 * seen * unseen / (seen + unseen)
    assert metrics["semantic"]["harmonic_mean_iou"] == pytest.approx(harmonic, abs=1e-12)
    assert metrics["instance"]["seen"]["ap"] == pytest.approx(rows["green thing"]["ap"])
    assert metrics["instance"]["unseen"]["ap"] == pytest.approx(rows["red thing"]["ap"])
    assert (rows["green thing"]["group"], rows["red thing"]["group"]) == ("seen", "unseen")
    assert metrics["instance"]["by_category"] == metrics_of(whole)["instance"]["by_category"]


def test_finer_names_are_scored_as_one_category(evaluation: Evaluation, data: Path) -> None:
    kinds = tuple(Category(name=name) for name in ("kestrel", "red kite", "buzzard"))
    finer = ColourSegmenter(lambda labels: np.where(labels > 0, 4 - labels, 0))
    artifact = evaluation(coco_spec(data), finer, categories=kinds, collapse_to="bird")
    metrics = metrics_of(artifact)
    assert [row["name"] for row in metrics["classes"]] == ["background", "bird"]
    assert metrics["semantic"]["mean_iou_with_background"] == 1
    assert metrics["instance"]["by_category"]["ap"] == pytest.approx(1)
    assert metrics["names"] == ["background", "kestrel", "red kite", "buzzard"]
    assert {row["category_id"] for row in artifact.read_json(INSTANCES)} == {1}


def test_ignored_pixels_stay_ignored_when_categories_are_scored_as_one(
    evaluation: Evaluation, data: Path
) -> None:
    path = data / "labels" / "2.png"
    labels = np.array(Image.open(path))
    labels[:, 20:] = 255
    Image.fromarray(labels).save(path)
    artifact = evaluation(folder_spec(data), collapse_to="thing")
    whole = sum(size[0] * size[1] for size, _ in IMAGES)
    counted = sum(row["pixels"] for row in metrics_of(artifact)["classes"])
    assert counted == whole - 60 * 24


def test_binary_masks_are_scored_as_objects_with_a_note(
    data: Path, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Listening(SilentProgress):
        said: list[str] = []  # noqa: RUF012

        def warn(self, sentence: str) -> None:
            self.said.append(sentence)

    for path in (data / "labels").glob("*.png"):
        found = np.asarray(Image.open(path))
        Image.fromarray(np.where(found % 255 > 0, 255, 0).astype(np.uint8)).save(path)
    (data / "names.txt").write_text("thing\n")
    segmenter, progress = ColourSegmenter(lambda labels: (labels % 255 > 0) * 1), Listening()
    monkeypatch.setattr(evaluate, "zutis_segmenter", lambda *args, **kwargs: segmenter)
    config = config_of(folder_spec(data))
    metrics = metrics_of(evaluate.run(config, Inputs(), store, progress))
    (thing,) = [row for row in metrics["classes"] if row["name"] == "thing"]
    assert thing["iou"] > 0.9
    assert metrics["evaluation_set"]["notes"] == progress.said
    assert "binary masks" in progress.said[0]


def test_images_that_fit_their_annotations_in_both_frames_are_reported(
    evaluation: Evaluation, data: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    image = data / "images" / "1.png"
    Image.open(image).save(image, exif=exif)
    right = evaluation(folder_spec(data))
    [note] = metrics_of(right)["evaluation_set"]["notes"]
    assert "EXIF turns 1.png, and their annotations fit either way: they are read as stored" in note
    assert "set upright=true" in note
    assert classes_of(right)["red thing"]["iou"] == pytest.approx(1.0)
    turned = evaluation(folder_spec(data), upright=True)
    assert "set upright=false" in metrics_of(turned)["evaluation_set"]["notes"][0]
    assert classes_of(turned)["red thing"]["iou"] < 0.9


def test_images_that_the_model_was_trained_on_are_counted(
    data: Path, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hashlib import sha256

    shown = [
        sha256((data / "images" / name).read_bytes()).hexdigest() for name in ("1.png", "2.png")
    ]
    recipe = Recipe(stage="assemble_dataset", version=1, config={})
    with store.attempt(ArtifactRef("assemble_dataset", recipe.key())) as attempt:
        with attempt.create("index.parquet") as file:
            write_parquet(pa.table({"key": [*shown, "0" * 64]}), file)
        dataset = store.publish(attempt, recipe)
    recipe = Recipe(stage="train", version=1, config={}, inputs={"dataset": dataset.key})
    with store.attempt(ArtifactRef("train", recipe.key())) as attempt:
        training = store.publish(attempt, recipe)
    monkeypatch.setattr(evaluate, "zutis_segmenter", lambda *args, **kwargs: ColourSegmenter())
    config = config_of(folder_spec(data), checkpoint="", checkpoint_digest="")
    metrics = metrics_of(evaluate.run(config, Inputs(training.ref), store, SilentProgress()))
    [note] = metrics["evaluation_set"]["notes"]
    assert note.startswith(f"2 of the {len(IMAGES)} images are in the training's data set")


def test_a_limit_takes_the_first_images(evaluation: Evaluation, data: Path) -> None:
    artifact = evaluation(coco_spec(data), limit=2)
    metrics = metrics_of(artifact)
    assert artifact.counts["images"] == 2
    assert metrics["evaluation_set"]["images_of_the_set"] == 3
    assert {row["image_id"] for row in artifact.read_json(INSTANCES)} == {10, 20}
    assert artifact.ref != evaluation(coco_spec(data)).ref


def test_progress_counts_images(
    data: Path, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Counting(SilentProgress):
        done = 0

        def advance(self, amount: int = 1, *, rejected: str = "", **counts: int) -> None:
            self.done += amount
            assert segmenter.seen == self.done

    segmenter, progress = ColourSegmenter(), Counting()
    monkeypatch.setattr(evaluate, "zutis_segmenter", lambda *args, **kwargs: segmenter)
    evaluate.run(config_of(coco_spec(data)), Inputs(), store, progress)
    assert progress.done == 3


def test_untrained_weights_are_called_so(evaluation: Evaluation, data: Path) -> None:
    artifact = evaluation(coco_spec(data))  # the text tower is random:0
    assert metrics_of(artifact)["model"]["untrained"] is True
    assert artifact.notes["untrained"] is True
    weights = replace(clip().weights, untrained=False)
    trained = evaluation(coco_spec(data), clip=replace(clip(), weights=weights), limit=1)
    assert metrics_of(trained)["model"]["untrained"] is False


def test_the_key_covers_the_settings_that_affect_the_scores_and_no_others(
    data: Path, store: ArtifactStore
) -> None:
    config = config_of(coco_spec(data))

    def key(**changes: Any) -> str:
        return evaluate.locate(replace(config, **changes), Inputs(), store).key

    same: list[dict[str, Any]] = [
        {"data_root": "/elsewhere"}, {"checkpoint": "moved/model.pt"},
        {"checkpoint_label": "mine"}, {"clip": replace(config.clip, device="cuda")},
    ]  # fmt: skip
    other: list[dict[str, Any]] = [
        {"checkpoint_digest": "cd" * 32}, {"evaluation_digest": "1"}, {"image_size": 512},
        {"limit": 1}, {"upright": True}, {"collapse_to": "x"}, {"seen_categories": ("red thing",)},
        {"clip": replace(config.clip, precision="bfloat16")},
        {"instances": InstanceSettings(suppression="linear")},
        {"categories": (Category(name="a"), Category(name="b"))},
        {"categories": (Category(name="a"), Category(name="b", prompts=("one {}",)))},
    ]  # fmt: skip
    assert {key(**change) for change in same} == {key()}
    keys = [key(), *(key(**change) for change in other)]
    assert len(set(keys)) == len(keys)


def test_a_training_takes_the_place_of_a_checkpoint(data: Path, store: ArtifactStore) -> None:
    training = Inputs(ArtifactRef("train", "a-b"))
    config = config_of(coco_spec(data), checkpoint="", checkpoint_digest="")
    assert evaluate.locate(config, training, store).stage == "evaluate"
    with pytest.raises(ConfigError, match="a training or a checkpoint"):
        evaluate.locate(config, Inputs(), store)
    with pytest.raises(ConfigError, match="a training or a checkpoint"):
        evaluate.locate(config_of(coco_spec(data)), training, store)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "sam"}, "method is 'sam': choose zutis or maskclip"),
        ({"method": "maskclip"}, "maskclip uses none"),
        ({"checkpoint_digest": ""}, "without a checkpoint_digest"),
        ({"image_size": 8}, "image_size is 8"),
        ({"limit": -1}, "limit is -1"),
        ({"collapse_to": "x", "seen_categories": ("y",)}, "leave out either"),
    ],
)
def test_invalid_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_of("coco:none", evaluation_digest="1", **settings)


def refused(kind: type[ZutisError], message: str) -> Any:
    return pytest.raises(kind, match=message)


def test_an_image_of_another_size_is_named(evaluation: Evaluation, data: Path) -> None:
    Image.fromarray(paint(np.zeros((9, 9), dtype=int))).save(data / "images" / "2.png")
    with refused(CorpusError, "2.png"):
        evaluation(coco_spec(data))
    assert evaluation.store.published("evaluate") == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"evaluation_digest": "0" * 64}, "has changed since this evaluation was planned"),
        ({"categories": (Category(name="a"),)}, "1 categories are given and .* has 2"),
        (
            {"categories": tuple(Category(name=name) for name in reversed(NAMES))},
            "Category 1 is 'green thing', which is class 2",
        ),
        ({"seen_categories": ("red thing", "mauve")}, "seen_categories has mauve"),
    ],
)
def test_settings_that_do_not_fit_the_set_are_refused_before_any_image_is_seen(
    evaluation: Evaluation, data: Path, settings: dict[str, Any], message: str
) -> None:
    segmenter = ColourSegmenter()
    with refused(ConfigError, message):
        evaluation(coco_spec(data), segmenter, **settings)
    assert segmenter.seen == 0


def test_a_model_with_more_categories_is_refused(evaluation: Evaluation, data: Path) -> None:
    with refused(ConfigError, "predicts category 7 in 1.png"):
        evaluation(coco_spec(data), ColourSegmenter(lambda labels: labels + 5 * (labels == 2)))


def test_a_ground_truth_label_without_a_category_is_refused(
    evaluation: Evaluation, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(data, "instances", monkeypatch, categories=("red thing",))
    with refused(CorpusError, "label map of 1.png doesn't match the categories"):
        evaluate_hidden(evaluation, ColourSegmenter(lambda labels: np.minimum(labels, 1)))


def test_an_image_without_ground_truth_is_refused(
    evaluation: Evaluation, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(data, "labels and instances", monkeypatch)
    with refused(CorpusError, "1.png has neither"):
        evaluate_hidden(evaluation)


def test_a_set_without_images_and_images_with_one_id_are_refused(
    evaluation: Evaluation, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(data, "", monkeypatch, images=())
    with refused(CorpusError, "has no image"):
        evaluate_hidden(evaluation)
    image: EvaluationImage = open_evaluation_set(coco_spec(data), None).images[0]
    hide(data, "", monkeypatch, images=(image, image))
    with refused(CorpusError, "have the same id"):
        evaluate_hidden(evaluation)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["zutis", "maskclip"])
def test_real_networks_of_random_weights_are_evaluated(
    method: str, data: Path, store: ArtifactStore
) -> None:
    of_method: dict[str, Any] = {"checkpoint": "", "checkpoint_digest": ""}
    if method == "zutis":
        of_method = {"checkpoint": "made-ViT-8:random:0", "checkpoint_digest": "random:0"}
    config = config_of(coco_spec(data), method=method, limit=2, **of_method)
    metrics = metrics_of(evaluate.run(config, Inputs(), store, SilentProgress()))
    assert 0 <= metrics["semantic"]["pixel_accuracy"] <= 1
    assert 0 <= metrics["instance"]["by_category"]["ap"] <= 1
    assert metrics["model"]["untrained"] is True


def test_names_that_differ_in_case_only_are_two_categories(
    evaluation: Evaluation, data: Path
) -> None:
    def rename(annotations: dict[str, Any]) -> None:
        for category, name in zip(annotations["categories"], ("cat", "Cat"), strict=True):
            category["name"] = name

    rewrite(data, rename)
    metrics = metrics_of(evaluation(coco_spec(data)))
    assert metrics["names"] == ["background", "cat", "Cat"]
    assert metrics["semantic"]["mean_iou_with_background"] == 1


def test_skipped_annotations_are_listed_with_the_scores(evaluation: Evaluation, data: Path) -> None:
    spec = coco_spec(data)
    whole = evaluation(spec).key
    assert evaluation(spec, skip_bad=True).key == whole, "nothing is faulty"
    rewrite(data, lambda annotations: annotations["annotations"][0].update(iscrowd="0"))
    with pytest.raises(CorpusError, match="`iscrowd` is '0'"):
        open_evaluation_set(spec, None)
    digest = open_evaluation_set(spec, None, skip_bad=True).digest()
    artifact = evaluation(spec, skip_bad=True, evaluation_digest=digest)
    used = metrics_of(artifact)["evaluation_set"]
    assert len(used["skipped"]) == 1
    assert "`iscrowd` is '0'" in used["skipped"][0]
    assert used["notes"][0].startswith("1 faulty annotation of coco.json is skipped")
    assert artifact.key != whole
