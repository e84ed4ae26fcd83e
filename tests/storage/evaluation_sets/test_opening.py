"""Opening data sets by name and by place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from storage.errors.exceptions import ConfigError, CorpusError
from storage.evaluation_sets.opening import BENCHMARKS, EvaluationSet, open_evaluation_set
from tests.support.files.evaluation_layouts import (
    annotation,
    box,
    write_coco,
    write_image,
    write_map,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data folder with a tiny CoCA and a data set in COCO's format."""
    write_image(tmp_path / "coca/image/key/a.jpg", (4, 6))
    write_map(tmp_path / "coca/binary/key/a.png", np.full((4, 6), 255))
    write_coco(
        tmp_path / "mine.json",
        tmp_path / "elsewhere",
        {"a.png": (4, 6)},
        [annotation(1, 5, box(0, 0, 2, 2))],
        {5: "owl"},
    )
    return tmp_path


def test_a_published_set_is_found_below_the_folder_of_data(root, monkeypatch):
    assert open_evaluation_set("coca", root).name == "coca"
    monkeypatch.setenv("ZUTIS_DATA", str(root))
    assert open_evaluation_set("coca", None).name == "coca"


def test_a_vocabulary_of_the_working_directory_does_not_change_labels(root, monkeypatch):
    before = open_evaluation_set("coca", root).digest()
    (root / "vocabularies").mkdir()
    (root / "vocabularies/coca.yaml").write_text("categories: [key]\n")
    monkeypatch.chdir(root)
    assert open_evaluation_set("coca", root).digest() == before


def test_no_folder_of_data(root, monkeypatch):
    monkeypatch.delenv("ZUTIS_DATA", raising=False)
    with pytest.raises(ConfigError, match="give --data DIR, or set ZUTIS_DATA"):
        open_evaluation_set("coca", None)
    with pytest.raises(ConfigError, match="nowhere does not exist"):
        open_evaluation_set("coca", root / "nowhere")


@pytest.mark.parametrize("name", sorted(set(BENCHMARKS) - {"coca"}))
def test_the_error_of_a_missing_set_names_its_parts_and_sources(root, name):
    benchmark = BENCHMARKS[name]
    place = root / benchmark.folders[0] / benchmark.requires[0].path
    with pytest.raises(CorpusError) as caught:
        open_evaluation_set(name, root)
    assert f"there is no {place} " in str(caught.value)
    assert f"get it from {benchmark.sources[0]}" in str(caught.value)


def test_a_set_may_lie_in_any_of_the_usual_folders(root):
    (root / "coca").rename(root / "CoCA")
    assert open_evaluation_set("coca", root).name == "coca"


def test_own_data(root):
    assert open_evaluation_set(f"coco:{root}/mine.json@{root}/elsewhere", None).categories == (
        "owl",
    )
    (root / "names.txt").write_text("\n".join(map(str, "abc")))
    with pytest.raises(CorpusError, match="are in none of"):
        open_evaluation_set(f"coco:{root}/mine.json", None)
    folders = f"{root}/coca/image+{root}/coca/binary"
    assert open_evaluation_set(f"folder:{folders}+{root}/names.txt", None).categories == (
        "a",
        "b",
        "c",
    )


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("coco2017_val", "did you mean coco2017-val?"),
        ("", "There is no data set ''"),
        ("coco:", "names no file"),
        ("folder:a", "not of the form folder:IMAGES"),
        ("folder:a+", "not of the form folder:IMAGES"),
        ("folder:a+b+c+d", "not of the form folder:IMAGES"),
    ],
)
def test_invalid_specs(spec, message, tmp_path):
    with pytest.raises(ConfigError) as caught:
        open_evaluation_set(spec, tmp_path)
    assert message in str(caught.value)


@pytest.fixture
def photographs(test_data: Path) -> EvaluationSet:
    return open_evaluation_set(f"coco:{test_data}/coco128/annotations/instances.json", None)


def test_real_photographs_open_with_all_their_objects(photographs):
    assert len(photographs.images) == 128
    assert len(photographs.categories) == 80
    instances = [each for image in photographs.images for each in image.instances()]
    assert len(instances) == 939
    assert {each.category for each in instances} <= set(range(1, 81))
    assert any(each.is_crowd for each in instances)


def test_real_photographs_have_the_size_and_labels_of_their_annotations(photographs):
    for image in list(photographs.images)[::16]:
        assert image.read().shape == (image.height, image.width, 3)
        labels = image.labels()
        assert labels.shape == (image.height, image.width)
        visible = set(np.unique(labels).tolist()) - {0}
        assert visible <= {each.category for each in image.instances()}
        assert visible or not image.instances()


def test_skipping_is_for_own_annotations_alone(root):
    with pytest.raises(ConfigError, match=r"skip_bad is for coco:FILE\.json"):
        open_evaluation_set("coca", root, skip_bad=True)
