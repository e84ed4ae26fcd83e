"""Images of evaluation sets are found in a corpus, as they are and nearly as they are."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from storage.artifacts.store import Artifact
from storage.errors.exceptions import ConfigError
from tasks.duplicates import find_leaks
from tasks.duplicates.find_leaks import Config, Inputs, KeepOut
from tasks.stage.contract import SilentProgress
from tasks.stage.layout import LEAKS
from tests.support.files.bad_images import HTML, write
from tests.support.files.made_copies import names_of, write_copies, write_originals
from tests.support.networks.fakes import FakeClip
from tests.support.runs.builds import rows_of
from tests.support.runs.stages import Stages


@pytest.fixture
def index(stages: Stages, corpus: Path, fake_clip: FakeClip) -> Artifact:
    write_originals(corpus, 5)
    return stages.index(stages.scan(corpus, part_images=4))


def find(
    stages: Stages,
    index: Artifact,
    keep_out: dict[str, Artifact],
    retrieval: Artifact | None = None,
) -> Artifact:
    # The fake CLIP sees mean colours, which nearly all images share.
    config = Config(least_similarity=0.9, threads=2)
    sets = tuple(KeepOut(name, found.ref) for name, found in keep_out.items())
    inputs = Inputs(index.ref, retrieval.ref if retrieval else None, sets)
    return find_leaks.run(config, inputs, stages.store, SilentProgress())


def leaks_of(stages: Stages, index: Artifact, found: Artifact) -> dict[str, Any]:
    """Rows by the file names of the corpus."""
    names = names_of(stages, index)
    return {names[row["image_id"]]: row for row in rows_of(found, LEAKS)}


def test_identical_and_changed_images_are_leaks_with_what_they_match(
    stages: Stages, index: Artifact, tmp_path: Path
) -> None:
    folder = tmp_path / "evaluation"
    write_originals(folder, 1, first=1)
    write_originals(folder, 2, first=30)
    write_copies(folder, 3, "crop", "mirrored")
    write(folder / "bad.jpg", HTML)
    others = stages.index(stages.scan(folder))
    found = find(stages, index, {"val": others})
    leaks = leaks_of(stages, index, found)
    assert leaks.keys() == {"1.png", "3.png"}
    assert leaks["1.png"]["matches"] == str(folder / "1.png")
    assert (leaks["1.png"]["way"], leaks["1.png"]["similarity"]) == ("identical", 1.0)
    assert Path(leaks["3.png"]["matches"]).name in ("3-crop.jpg", "3-mirrored.jpg")
    assert leaks["3.png"]["distance"] <= Config().greatest_distance
    assert {row["keep_out"] for row in leaks.values()} == {"val"}
    assert found.counts == {"images": 5, "leaks": 2, "identical": 1, "unreadable": 0}
    assert found.notes["keep_out"] == [{"name": "val", "images": 5, "unusable": 1, "leaks": 2}]


def test_sets_in_tars_and_in_coco_files_are_looked_in(
    stages: Stages, index: Artifact, tmp_path: Path
) -> None:
    folder = tmp_path / "evaluation"
    write_copies(folder, 0, "brighter")
    write_copies(folder, 4, "jpeg_30")
    with tarfile.open(tmp_path / "val.tar", "w") as tar:
        tar.add(folder / "0-brighter.jpg", "0.jpg")
    (folder / "val.json").write_text(
        json.dumps({"images": [{"id": 1, "file_name": "4-jpeg_30.jpg"}]})
    )
    sets = {
        "tar": stages.index(stages.scan(tmp_path / "val.tar")),
        "coco": stages.index(stages.scan(folder / "val.json")),
    }
    leaks = leaks_of(stages, index, find(stages, index, sets))
    assert {name: row["keep_out"] for name, row in leaks.items()} == {
        "0.png": "tar", "4.png": "coco",
    }  # fmt: skip
    assert leaks["0.png"]["matches"] == f"{tmp_path / 'val.tar'} : 0.jpg"


def test_only_images_of_the_retrieval_are_looked_for(
    stages: Stages, index: Artifact, tmp_path: Path
) -> None:
    folder = tmp_path / "evaluation"
    write_originals(folder, 5)
    retrieval = stages.retrieve(index, ["red"], 2)
    write_originals(folder, 1, first=40)
    for name in names_of(stages, index).values():
        if name in {"0.png", "1.png"}:
            (folder / name).unlink()
    found = find(stages, index, {"val": stages.index(stages.scan(folder))})
    assert leaks_of(stages, index, found).keys() == {"2.png", "3.png", "4.png"}
    inputs = Inputs(index.ref, retrieval.ref, ())
    restricted = find_leaks.run(Config(), inputs, stages.store, SilentProgress())
    assert restricted.counts["images"] == 2
    assert rows_of(restricted, LEAKS) == []


def test_the_corpus_itself_is_refused(stages: Stages, index: Artifact) -> None:
    with pytest.raises(ConfigError, match=r"^--keep-out mine has all 5 images .* corpus itself\.$"):
        find(stages, index, {"mine": index})


def test_the_sets_their_names_and_the_settings_decide_the_key(
    stages: Stages, index: Artifact
) -> None:
    mine, other = KeepOut("mine", index.ref), KeepOut("other", index.ref)
    keys = {
        find_leaks.locate(config, Inputs(index.ref, None, sets), stages.store)
        for config, sets in [
            (Config(), ()), (Config(), (mine,)), (Config(), (other,)), (Config(), (mine, other)),
            (Config(neighbours=2), (mine,)), (Config(threads=9), (mine,)),
        ]
    }  # fmt: skip
    assert len(keys) == 5
