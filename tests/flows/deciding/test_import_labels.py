"""Corrected files become decisions, which a build follows."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.builds.found import FoundBuild, build_of
from flows.builds.labels import load_labels
from flows.cli import exit_code_of, run_command_line
from flows.deciding.corrections import ImageNames
from flows.deciding.reviewed import Reviewed, labels_to_review
from flows.settings.options import changed
from storage.decisions.decision_file import read_decisions
from storage.images.masks import run_length_pixels, run_lengths
from tests.support.runs.builds import build_here

Edit = Callable[[dict[str, Any], list[dict[str, Any]]], None]


def coco_of(reviewed: Reviewed, **names: Any) -> dict[str, Any]:
    """The labels as a COCO file has them."""
    names_of = reviewed.labels.samples.categories
    images, annotations = [], []
    for label in reviewed.drawn.tolist():
        mask, image_id = reviewed.drawn_mask(label), reviewed.labels.image_id(label)
        images.append({"id": label, "file_name": f"train/{image_id}.jpg",
                       "height": mask.height, "width": mask.width})  # fmt: skip
        annotations.append({
            "id": label, "image_id": label, "category_id": reviewed.labels.category(label),
            "segmentation": {"size": [mask.height, mask.width], "counts": mask.counts},
        })  # fmt: skip
    categories = [{"id": number, "name": name} for number, name in names_of.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


@pytest.fixture
def reviewed(build: FoundBuild) -> Reviewed:
    return labels_to_review(build)


def box() -> dict[str, Any]:
    pixels = np.zeros((48, 40), dtype=np.bool_)
    pixels[3:20, 4:30] = True
    return run_lengths(pixels)


@pytest.fixture
def bring(settings, tmp_path: Path, file: Path, capsys) -> Callable[..., str]:
    """Import a file; what was said."""

    def bring(content: Any, *words: str) -> str:
        path = tmp_path / "corrected.json"
        path.write_text(json.dumps(content))
        line = ["import-labels", str(path), "--store", settings.store, "--decisions", str(file)]
        run_command_line([*line, *words])
        return capsys.readouterr().out

    return bring


def test_masks_categories_and_deleted_objects(settings, build, reviewed, bring, file) -> None:
    content = coco_of(reviewed)
    first, second, third, fourth = content["annotations"][:4]
    first["segmentation"] = box()
    second["category_id"] = 3
    third |= {"category_id": 3, "segmentation": box()}
    third["segmentation"] = _shrunk(reviewed, 2)
    content["annotations"].remove(fourth)
    said = bring(content, "--missing", "reject", "--who", "Ana")
    assert "1 labels with another mask" in said
    assert "1 labels of another category and with another mask" in said
    assert "1 labels rejected" in said
    assert "8 labels unchanged" in said
    verdicts = [each.verdict for each in read_decisions(str(file))]
    assert verdicts == ["redraw", "rename", "rename", "redraw", "reject"]
    assert {each.who for each in read_decisions(str(file))} == {"Ana"}
    built = build_of(build_here(changed(settings, decisions=str(file))).dataset)
    after = {
        labels.image_id(at): (labels.samples.categories[labels.category(at)], at)
        for labels in [load_labels(built)] for at in range(len(labels))
    }  # fmt: skip
    ids = [reviewed.labels.image_id(label) for label in range(4)]
    assert [after.get(each, ("gone",))[0] for each in ids] == ["red", "blue", "blue", "gone"]
    there = labels_to_review(built)
    assert there.drawn_mask(after[ids[0]][1]).counts == box()["counts"]
    assert there.drawn_mask(after[ids[2]][1]).counts == _shrunk(reviewed, 2)["counts"]
    assert built.plan.counts["decided"]["stale"] == 0


def _shrunk(reviewed: Reviewed, label: int) -> dict[str, Any]:
    """The label's mask without its first row of pixels."""
    mask = reviewed.drawn_mask(label)
    pixels = run_length_pixels({"size": [mask.height, mask.width], "counts": mask.counts}).copy()
    pixels[np.flatnonzero(pixels.any(axis=1))[0]] = False
    return run_lengths(pixels)


def test_the_same_file_again_adds_nothing(reviewed, bring, file) -> None:
    content = coco_of(reviewed)
    content["annotations"][0]["segmentation"] = box()
    content["annotations"][1]["category_id"] = 2
    del content["annotations"][5]
    words = ["--missing", "reject", "--unchanged", "accept"]
    bring(content, *words)
    once = file.read_bytes()
    assert len(once.splitlines()) == 12
    assert "12 labels as decided before" in bring(content, *words)
    assert file.read_bytes() == once


def test_without_being_told_to_nothing_is_rejected_or_accepted(reviewed, bring, file) -> None:
    content = coco_of(reviewed)
    del content["annotations"][0]
    assert "1 labels kept, without an object in the file" in bring(content)
    assert not file.exists()


def test_images_are_found_by_their_files_names(reviewed, build, bring, file, corpus) -> None:
    names = {sha256(path.read_bytes()).hexdigest(): path.name for path in corpus.iterdir()}
    content = coco_of(reviewed)
    for image in content["images"]:
        image["file_name"] = f"0a1b2c3d-{names[image['file_name'][6:-4]]}"
    content["annotations"][0]["segmentation"] = box()
    content["images"].append({"id": 99, "file_name": "nobody.jpg", "height": 4, "width": 4})
    said = bring(content)
    assert "1 labels with another mask" in said
    assert "1 images that no name tells" in said


def test_other_images_are_counted_and_kept_and_new_objects_counted(reviewed, bring, file) -> None:
    content = coco_of(reviewed)
    other = {"id": 99, "file_name": f"{'ab' * 32}.jpg", "height": 48, "width": 40}
    content["images"].append(other)
    for number, image in ((98, 99), (99, 0)):
        content["annotations"].append(
            {"id": number, "image_id": image, "category_id": 2, "segmentation": box()}
        )
    said = bring(content)
    assert "1 images that the build does not have" in said
    assert "1 objects of no label" in said
    [kept] = read_decisions(str(file))
    assert (kept.image_id, kept.category, kept.mask) == ("ab" * 32, "green", "")
    assert "0 decisions were added" in bring(content)


def test_masks_of_another_size_reject_nothing(reviewed, bring, file) -> None:
    content = coco_of(reviewed)
    content["images"][0] |= {"height": 4, "width": 4}
    small = run_lengths(np.ones((4, 4), dtype=np.bool_))
    content["annotations"][0]["segmentation"] = small
    assert "1 objects with masks of another size" in bring(content, "--missing", "reject")
    assert not file.exists()


def test_pieces_of_a_label_are_its_mask(reviewed, bring, file) -> None:
    content = coco_of(reviewed)
    first, pixels = content["annotations"][0], run_length_pixels(box())
    left, right = pixels.copy(), pixels.copy()
    left[:, 12:] = right[:, :12] = False
    first["segmentation"] = run_lengths(left)
    content["annotations"].append(first | {"id": 99, "segmentation": run_lengths(right)})
    said = bring(content)
    assert "1 labels with another mask" in said
    assert "of no label" not in said
    [decision] = read_decisions(str(file))
    assert decision.drawn.counts == box()["counts"]


def test_what_can_not_be_read_rejects_nothing(reviewed, bring, file) -> None:
    content = coco_of(reviewed)
    del content["annotations"][0]["segmentation"]  # a box, as tools draw them, too
    said = bring(content, "--missing", "reject")
    assert "1 objects without a mask" in said
    assert not file.exists()


@pytest.mark.parametrize("form", [
    "/data/local-files/?d=corpus/{}", "https://x.example/of%20all/{}?token=1", "C:\\images\\{}",
    "/data/upload/7/0a1b2c3d-{}",
])  # fmt: skip
def test_addresses_of_tools_name_files(reviewed, build, corpus, form: str) -> None:
    names = ImageNames(reviewed)
    for path in corpus.iterdir():
        found = names.image_id([form.format(path.name)])
        assert found == sha256(path.read_bytes()).hexdigest()


def test_a_file_that_is_none_is_one_sentence(settings, build, file, tmp_path, capsys) -> None:
    for name, content in (("a.json", "[]"), ("none.json", None)):
        path = tmp_path / name
        if content:
            path.write_text(content)
        line = ["import-labels", str(path), "--store", settings.store, "--decisions", str(file)]
        assert exit_code_of(lambda line=line: run_command_line(line)) == 2
        assert name in " ".join(capsys.readouterr().err.split())
    assert not file.exists()


def test_what_is_exported_comes_back_unchanged(settings, build, bring, tmp_path, file) -> None:
    out = tmp_path / "exported"
    words = ["export", "--format", "coco", "--out", str(out), "--store", settings.store]
    run_command_line(words)
    content = json.loads((out / "annotations" / "instances_train.json").read_text())
    for image in content["images"]:
        image.pop("image_id", None)  # as tools do, which know no such field
    assert "12 labels unchanged" in bring(content)
    content["annotations"][0]["segmentation"] = box()
    assert "1 labels with another mask" in bring(content)
