"""`zutis predict`: its options reach the segmenter, and its errors are sentences."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from flows.pipelines.training import checkpoint_place
from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import ArtifactRef, ArtifactStore
from storage.errors.exceptions import (
    ArtifactError,
    ConfigError,
    CorpusError,
    VocabularyError,
    WeightsError,
    ZutisError,
)
from tests.support.files.coloured_images import coloured_image as coloured
from tests.support.files.coloured_images import write_corpus
from tests.support.networks.colour_network import ColourNetwork
from tests.support.networks.fakes import FakeClip
from tests.support.runs.command_line import said

UNTRAINED = "made-ViT-8:random:0"


def run(*arguments: object) -> str:
    return said("predict", *arguments)


@pytest.fixture
def folder(tmp_path) -> Path:
    write_corpus(tmp_path / "pictures", ["red", "blue"], each=2)
    return tmp_path / "pictures"


@pytest.fixture
def colours(monkeypatch) -> None:
    """Checkpoints and CLIPs load as networks that recognise colours."""
    monkeypatch.setattr(
        "tasks.prediction.segmenter.load_network", lambda *args, **kwargs: ColourNetwork()
    )
    monkeypatch.setattr("tasks.prediction.segmenter.load_clip_model", lambda config: FakeClip())


def annotations(out: Path) -> list[dict]:
    content = json.loads((out / "predictions.json").read_text())
    return content["annotations"]


def test_a_run_says_what_it_did(colours, folder, tmp_path):
    (folder / "page.jpg").write_text("<html>")
    cut = b"Exif\0\0II*\0\x08\0\0\0\xff\xff"
    coloured("red", 7, (64, 48)).save(folder / "odd.jpg", exif=cut)
    out = tmp_path / "out"
    output = run(
        folder, "--checkpoint", UNTRAINED, "--categories", "red, blue", "--out", out,
        "--min-score", 0,
    )  # fmt: skip
    assert "1 used, damaged_metadata: EXIF data or TIFF tags are damaged" in output
    assert "5 images, 5 instances of 2 categories, by made-ViT-8:random:0 (untrained)" in output
    assert "1 left out, not_an_image: the bytes are of no known image format" in output
    assert "Untrained weights" in output
    assert len(list((out / "labels").iterdir())) == 5


def test_a_corpus_is_narrowed_down_and_the_rest_told(colours, folder, tmp_path):
    (folder / "notes.txt").touch()
    out = tmp_path / "out"
    words = ["--checkpoint", UNTRAINED, "--categories", "red, blue", "--out", out]
    output = run(folder, *words, "--exclude", "red-*", "--include", "*-001.jpg")
    assert "1 images" in output
    assert "Other files: 3 excluded, 1 txt." in output
    (folder / "t.csv").write_text("photo\nred-000.jpg\n")
    output = run(folder / "t.csv", *words, "--overwrite", "--uri-column", "photo")
    assert "1 images" in output
    with pytest.raises(CorpusError, match=r"no column 'foto' \(its columns are photo\)"):
        run(folder / "t.csv", *words, "--overwrite", "--uri-column", "foto")


def test_image_ids_are_those_of_a_file(colours, folder, tmp_path):
    out, truth = tmp_path / "out", folder / "truth.json"
    names = ["red-001.jpg", "red-000.jpg", "blue-000.jpg", "blue-001.jpg"]
    images = [{"file_name": name, "id": 10 * i} for i, name in enumerate(names, start=1)]
    truth.write_text(json.dumps({"images": images}))
    words = ["--checkpoint", UNTRAINED, "--categories", "red, blue", "--out", out, "--overwrite"]

    def ids() -> list[int]:
        content = json.loads((out / "predictions.json").read_text())
        assert {row["image_id"] for row in content["annotations"]} <= {
            row["id"] for row in content["images"]
        }
        return [row["id"] for row in content["images"]]

    assert f"Image ids are those of {truth}." in run(truth, *words)
    assert ids() == [30, 40, 20, 10]
    run(folder, *words, "--image-ids", truth)
    assert ids() == [30, 40, 20, 10]
    run(folder, *words)
    assert ids() == [1, 2, 3, 4]
    truth.write_text(json.dumps({"images": [*images[:3], images[3] | {"id": 10}]}))
    assert "has the `id` 10 of red-001.jpg" in run(truth, *words)
    assert ids() == [1, 2, 3, 4]
    truth.write_text(json.dumps({"images": images[:2]}))
    with pytest.raises(CorpusError, match="2 of 4 images are not in"):
        run(folder, *words, "--image-ids", truth)


@pytest.mark.parametrize("named", ["images", "pattern", "option"])
def test_names_alone_are_scored_against_an_official_file_as_they_are(
    colours, folder, test_data, tmp_path, named
):
    """Category ids come from the file; numbered from 1, they would be of other categories."""
    truth = official_file(test_data, folder)
    out = tmp_path / "out"
    places = {
        "images": [truth],
        "pattern": [folder / "t*.json"],
        "option": [folder, "--image-ids", truth],
    }[named]
    words = ["--checkpoint", UNTRAINED, "--categories", "red, blue", "--out", out]
    told = run(*places, *words, "--min-score", 0)
    assert f"Category ids are those of {truth}." in told
    coco = COCO(truth)
    assert {row["category_id"] for row in json.loads((out / "results.json").read_text())} == {
        coco.getCatIds(catNms=["red"])[0],
        coco.getCatIds(catNms=["blue"])[0],
    }
    scores = COCOeval(coco, coco.loadRes(str(out / "results.json")), "segm")
    scores.evaluate()
    scores.accumulate()
    scores.summarize()
    assert scores.stats[1] > 0.5


def official_file(test_data: Path, folder: Path) -> Path:
    """COCO's own 80 categories and their gaps, two of them under the names of colours; with the
    coloured images and their objects."""
    official = json.loads((test_data / "coco128/annotations/instances.json").read_text())
    categories = official["categories"]
    numbers = {"red": categories[15]["id"], "blue": categories[79]["id"]}
    assert numbers == {"red": 17, "blue": 90}
    categories[15]["name"], categories[79]["name"] = "red", "blue"
    images, annotations = [], []
    for number, path in enumerate(sorted(folder.glob("*.jpg")), start=1):
        pixels = np.asarray(Image.open(path)).astype(int)
        mask = np.asfortranarray(np.ptp(pixels, axis=2) > 60, dtype=np.uint8)
        height, width = mask.shape
        own = {"id": 1000 * number, "file_name": path.name, "height": height, "width": width}
        images.append(own)
        rle = coco_mask.encode(mask)
        annotations.append(
            {
                "id": number, "image_id": own["id"], "iscrowd": 0, "area": int(mask.sum()),
                "category_id": numbers[path.name.partition("-")[0]],
                "bbox": coco_mask.toBbox(rle).tolist(),
                "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
            }
        )  # fmt: skip
    truth = folder / "truth.json"
    text = {"images": images, "annotations": annotations, "categories": categories}
    truth.write_text(json.dumps(text))
    return truth


def test_options_reach_the_segmenter(colours, folder, tmp_path):
    common = (folder, "--checkpoint", UNTRAINED, "--categories", "red")
    run(
        *common,
        "--out",
        tmp_path / "all",
        "--min-score",
        0,
        "--suppression",
        "none",
        "--batch-size",
        3,
    )
    run(*common, "--out", tmp_path / "none", "--min-score", 1, "--suppression", "gaussian")
    assert annotations(tmp_path / "all")
    assert not annotations(tmp_path / "none")


def test_vocabularies_give_names(colours, folder, tmp_path):
    (tmp_path / "colours.txt").write_text("background\nblue\n")
    run(
        folder, "--checkpoint", UNTRAINED, "--vocabulary", tmp_path / "colours.txt",
        "--out", tmp_path / "out", "--min-score", 0,
    )  # fmt: skip
    categories = json.loads((tmp_path / "out" / "predictions.json").read_text())["categories"]
    assert categories == [{"id": 1, "name": "blue"}]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [((20, 7), [20, 7]), (('"n02"', '"n01"'), [1, 2]), ((20, 20), [1, 2]), ((1, 2), [1, 2])],
)
def test_results_have_the_numbers_of_the_vocabulary_where_it_has_some(
    colours, folder, tmp_path, ids, expected
):
    (tmp_path / "colours.yaml").write_text(
        f"categories:\n  - {{name: red, id: {ids[0]}}}\n  - {{name: blue, id: {ids[1]}}}\n"
    )
    out = tmp_path / "out"
    run(
        folder, "--checkpoint", UNTRAINED, "--vocabulary", tmp_path / "colours.yaml",
        "--out", out, "--min-score", 0,
    )  # fmt: skip
    predictions = json.loads((out / "predictions.json").read_text())
    assert [row["id"] for row in predictions["categories"]] == expected
    results = json.loads((out / "results.json").read_text())
    for rows in (predictions["annotations"], results):
        assert {row["category_id"] for row in rows} == set(expected)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"--categories": "a", "--vocabulary": "b"}, VocabularyError, "give one of them"),
        ({"--vocabulary": "no-such-list"}, VocabularyError, "no vocabulary named 'no-such-list'"),
        ({"--categories": " , "}, VocabularyError, "0 categories"),
        ({}, VocabularyError, "give categories or a vocabulary"),
        ({"--categories": "a", "--min-score": "2"}, ConfigError, "min_score is 2"),
        ({"--categories": "a", "--suppression": "soft"}, ConfigError, "suppression is 'soft'"),
        ({"--categories": "a", "--batch-size": "0"}, ConfigError, "batch_size is 0"),
        ({"--categories": "a", "--device": "tpu"}, ConfigError, "device is 'tpu'"),
        ({"--categories": "a", "--checkpoint": "no-such"}, WeightsError, "no checkpoint no-such"),
        ({"--checkpoint": "maskclip"}, VocabularyError, "MaskCLIP needs names"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(
    options, error, message, colours, folder, tmp_path
):
    out = tmp_path / "out"
    words = {"--checkpoint": UNTRAINED, "--out": str(out)} | options
    with pytest.raises(error, match=message):
        run(folder, *(word for option in words.items() for word in option))
    assert not out.exists()


def test_a_folder_with_something_in_it_is_refused_first(folder):
    with pytest.raises(ZutisError, match="not empty"):
        run(folder, "--checkpoint", "no-such", "--categories", "a", "--out", folder)


def test_the_module_loads_nothing_heavy():
    code = (
        "import sys, flows.commands.predict\n"
        "heavy = {'torch', 'open_clip', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_real_network_on_photographs(test_data, tmp_path):
    photographs = sorted((test_data / "coco128").rglob("*.jpg"))[:2]
    out = tmp_path / "out"
    output = run(
        *photographs, "--checkpoint", UNTRAINED, "--categories", "zebra,red kite",
        "--out", out, "--min-score", 0, "--image-size", 320,
    )  # fmt: skip
    assert "2 images" in output
    images = json.loads((out / "predictions.json").read_text())["images"]
    assert [image["file_name"] for image in images] == [path.name for path in photographs]


def test_a_training_is_named_by_its_key_or_as_the_latest(tmp_path):
    store = ArtifactStore(str(tmp_path / "store"))
    recipe = Recipe(stage="train", version=1, config={})
    with store.attempt(ArtifactRef("train", recipe.key())) as attempt:
        attempt.create_json("model.json", {"clip": "", "config": {"leave_out": []}})
        trained = store.publish(attempt, recipe)
    for name in (trained.key, trained.key[:6], "latest"):
        assert checkpoint_place(name, store.root) == trained.location
    assert checkpoint_place("coco_vit_b_16", store.root) == "coco_vit_b_16"
    assert checkpoint_place("model.pt", store.root) == "model.pt"
    with pytest.raises(ArtifactError, match="begins with 'abcdef00'"):
        checkpoint_place("abcdef00", store.root)


def test_no_instance_at_all_is_told_with_the_highest_score(colours, folder, tmp_path):
    common = (folder, "--checkpoint", UNTRAINED, "--categories", "red", "--out")
    output = run(*common, tmp_path / "none", "--min-score", 1)
    found = re.search(r"No instance has a score of 1 or more; the highest is (0\.\d{3})", output)
    assert found, output
    highest = float(found[1])
    run(*common, tmp_path / "some", "--min-score", highest - 0.001)
    assert max(row["score"] for row in annotations(tmp_path / "some")) == pytest.approx(
        highest, abs=5e-4
    )
    assert "highest" not in run(*common, tmp_path / "all", "--min-score", 0)


def published_training(store: ArtifactStore, name: str, leave_out: list[str]) -> str:
    recipe = Recipe(stage="train", version=1, config={"name": name})
    with store.attempt(ArtifactRef("train", recipe.key())) as attempt:
        card = {"clip": "", "config": {"leave_out": leave_out}, "categories": ["red"]}
        attempt.create_json("model.json", card)
        return store.publish(attempt, recipe).key


def test_the_latest_model_is_never_one_that_left_categories_out(tmp_path):
    store = ArtifactStore(str(tmp_path))
    ablation = published_training(store, "first", ["blue"])
    with pytest.raises(ArtifactError, match=f"left categories out .{ablation[:12]}"):
        checkpoint_place("latest", str(tmp_path))
    whole = published_training(store, "second", [])
    published_training(store, "third", ["blue"])
    assert whole in checkpoint_place("latest", str(tmp_path))
    assert ablation in checkpoint_place(ablation, str(tmp_path))
