"""`zutis export` on builds: what is handed over, under which ids, and where to."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pycocotools.coco import COCO

from flows.builds.found import build_of
from flows.cli import exit_code_of, run_command_line
from flows.demo.settings import CLIP, SELFMASK
from flows.exporting.gathered import gather
from flows.exporting.settings import ExportOptions, FormatName, shares_of
from flows.settings.build import BuildSettings
from flows.settings.options import changed
from made_world.corpus import write_corpus
from storage.artifacts.store import Artifact
from storage.errors.exceptions import ConfigError
from storage.shards.samples import ShardSamples
from tasks.formats.registry import FORMATS
from tests.support.runs.builds import build_here

KINDS = ("star", "heart", "fish")


def export(settings: BuildSettings, name: str, out: Path, *words: str) -> int:
    line = ["export", "--format", name, "--out", str(out), "--store", settings.store, *words]
    return exit_code_of(lambda: run_command_line(line))


@pytest.fixture
def dataset(settings: BuildSettings) -> Artifact:
    return build_here(settings).dataset


def test_the_options_name_all_formats() -> None:
    assert get_args(FormatName) == tuple(FORMATS)


def test_label_maps_are_those_of_the_shards(settings, dataset, tmp_path):
    assert export(settings, "png", tmp_path / "out") == 0
    samples = ShardSamples.open(dataset)
    for i in range(len(samples)):
        stored = samples.read(i)
        labels = Image.open(tmp_path / "out/labels/train" / f"{samples.key(i)}.png")
        assert np.array_equal(np.asarray(labels), samples.decode_labels(i, stored.mask))
        image = tmp_path / "out/images/train" / f"{samples.key(i)}.jpg"
        assert image.read_bytes() == stored.jpeg


@pytest.mark.slow
def test_several_objects_an_image(tmp_path):
    write_corpus(tmp_path, 5, 30, KINDS, world="hard")
    (tmp_path / "kinds.txt").write_text("\n".join(KINDS), encoding="utf-8")
    settings = BuildSettings(
        corpus=(str(tmp_path / "pictures"),), vocabulary=str(tmp_path / "kinds.txt"),
        per_category=6, clip=CLIP, selfmask=SELFMASK, mask_size=96, objects="many", device="cpu",
        store=str(tmp_path / "store"),
    )  # fmt: skip
    samples = ShardSamples.open(build_here(settings).dataset)
    assert len(samples.objects.labels) > len(samples)
    assert export(settings, "png", tmp_path / "png") == 0
    assert export(settings, "coco", tmp_path / "coco") == 0
    for i in range(len(samples)):
        labels = Image.open(tmp_path / "png/labels/train" / f"{samples.key(i)}.png")
        expected = samples.decode_labels(i, samples.read(i).mask)
        assert np.array_equal(np.asarray(labels), expected)
    coco = COCO(str(tmp_path / "coco/annotations/instances_train.json"))
    assert len(coco.anns) == len(samples.objects.labels)


def test_splits_by_the_command(settings, dataset, tmp_path, capsys):
    assert export(settings, "coco", tmp_path / "out", "--split", "train=0.75,val=0.25") == 0
    assert "12 images (train 9, val 3) with 12 labels." in capsys.readouterr().out
    val = json.loads((tmp_path / "out/annotations/instances_val.json").read_text())
    assert sorted(each["category_id"] for each in val["annotations"]) == [1, 2, 3]


def test_links_and_paths_lead_to_the_corpus(settings, dataset, corpus, tmp_path):
    assert export(settings, "png", tmp_path / "links", "--images", "link") == 0
    links = list((tmp_path / "links/images/train").iterdir())
    assert {path.resolve() for path in links} == set(corpus.glob("*.jpg"))
    assert export(settings, "coco", tmp_path / "paths", "--images", "paths") == 0
    written = json.loads((tmp_path / "paths/annotations/instances_train.json").read_text())
    names = {image["file_name"] for image in written["images"]}
    assert names == {str(path) for path in corpus.glob("*.jpg")}
    assert not list((tmp_path / "paths").rglob("*.jpg"))


def test_images_that_have_changed_are_copied(settings, dataset, corpus, tmp_path, capsys):
    (corpus / "red-000.jpg").unlink()
    (corpus / "red-001.jpg").write_bytes(b"something else")
    assert export(settings, "png", tmp_path / "out", "--images", "link") == 0
    assert "2 images were copied" in capsys.readouterr().out
    for path in (tmp_path / "out/images/train").iterdir():
        Image.open(path).load()


def test_low_quality_is_left_out(settings, dataset, monkeypatch, tmp_path):
    from flows.exporting import gathered

    load = gathered.load_labels

    def judged(build):
        labels = load(build)
        labels.quality[:] = np.linspace(0, 1, len(labels))
        return labels

    monkeypatch.setattr(gathered, "load_labels", judged)
    options = ExportOptions(format="png", out=tmp_path / "out", min_quality=0.5)
    found = gather(build_of(dataset), options)
    assert (found.labels_left_out, found.images_left_out) == (6, 6)
    qualities = [each.quality for image in found.contents.read() for each in image.objects]
    assert len(qualities) == 6
    assert min(q for q in qualities if q is not None) >= 0.5


def test_min_quality_needs_quality(settings, dataset, tmp_path, capsys):
    assert export(settings, "png", tmp_path / "out", "--min-quality", "0.5") == 2
    assert "build with --quality" in " ".join(capsys.readouterr().err.split())


def test_decisions_are_in_the_export(settings, dataset, tmp_path):
    decisions = tmp_path / "decisions.jsonl"
    first = ShardSamples.open(dataset).facts(0)
    name = first["categories"][0]["name"]
    line = {"image_id": first["image_id"], "category": name, "verdict": "reject",
            "when": "2030-01-31T12:00:00Z"}  # fmt: skip
    decisions.write_text(json.dumps(line) + "\n")
    decided = build_here(changed(settings, decisions=str(decisions))).dataset
    assert export(settings, "parquet", tmp_path / "out", decided.key) == 0
    rows = pq.read_table(tmp_path / "out/labels.parquet").to_pylist()
    assert len(rows) == 11
    assert first["image_id"] not in {row["image_id"] for row in rows}


def test_ids_of_coco(settings, corpus, tmp_path):
    paths = sorted(corpus.glob("*.jpg"))
    images = [
        {"id": 1000 + number, "file_name": path.name, "height": 48, "width": 40}
        for number, path in enumerate(paths)
    ]
    truth = corpus / "instances.json"
    truth.write_text(json.dumps({"images": images, "annotations": [], "categories": []}))
    vocabulary = tmp_path / "colours.yaml"
    vocabulary.write_text(
        "categories:\n- {name: red, id: 18}\n- {name: green, id: 44}\n- {name: blue, id: 90}\n"
    )
    build_here(changed(settings, corpus=(str(truth),), vocabulary=str(vocabulary)))
    assert export(settings, "coco", tmp_path / "out", "--ids", "coco") == 0
    coco = COCO(str(tmp_path / "out/annotations/instances_train.json"))
    assert set(coco.getImgIds()) == {image["id"] for image in images}
    assert set(coco.getCatIds()) == {18, 44, 90}
    by_id = {image["id"]: image["file_name"] for image in images}
    for annotation in coco.anns.values():
        colour = coco.loadCats(annotation["category_id"])[0]["name"]
        assert by_id[annotation["image_id"]].startswith(colour)
    assert coco.imgs[1000]["file_name"] == "000000001000.jpg"


def test_ids_of_coco_that_are_not_there(settings, dataset, tmp_path, capsys):
    assert export(settings, "coco", tmp_path / "out", "--ids", "coco") == 2
    assert "leave --ids coco out" in " ".join(capsys.readouterr().err.split())


def test_a_full_disk_leaves_no_half_of_an_export(settings, dataset, tmp_path, monkeypatch, capsys):
    out = tmp_path / "exports" / "out"
    assert export(settings, "png", out) == 0
    before = sorted(path.name for path in out.rglob("*"))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tasks.formats.coco.CocoFile.add", full)
    assert export(settings, "coco", out, "--overwrite") == 2
    assert "Could not write" in capsys.readouterr().err
    assert sorted(path.name for path in out.rglob("*")) == before
    assert list(out.parent.iterdir()) == [out]


def test_a_folder_of_the_users_stays(settings, dataset, tmp_path, capsys):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/thesis.txt").write_text("years of work")
    assert export(settings, "png", tmp_path / "thesis", "--overwrite") == 2
    assert "no export" in capsys.readouterr().err
    assert (tmp_path / "thesis/thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    "text", ["train", "train=0.5", "train=0.5,train=0.5", "Train=1", "../x=1", "train=1,val=0"]
)
def test_splits_that_cannot_be(text: str) -> None:
    with pytest.raises(ConfigError, match="split is"):
        ExportOptions(format="png", out=Path("out"), split=text)


def test_shares() -> None:
    assert shares_of("train=0.8, val=.15,test=0.05") == {"train": 0.8, "val": 0.15, "test": 0.05}
    assert shares_of("") == {"train": 1.0}
