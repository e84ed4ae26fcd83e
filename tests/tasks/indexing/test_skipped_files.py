"""Files of a corpus that a build skips, and their counts in its summary."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from flows.pipelines.build import Build
from flows.summaries.build import summarise
from storage.errors.exceptions import ConfigError, CorpusError
from storage.shards.samples import ShardSamples
from tests.support.files.bad_images import palette_png, tar_bytes, write
from tests.support.files.coloured_images import coloured_image, write_corpus
from tests.support.runs.builds import build_here, settings_of, write_vocabulary

NAMES = ["red", "green"]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    write_corpus(tmp_path / "corpus", NAMES, each=3)
    return tmp_path / "corpus"


@pytest.fixture
def run(tmp_path: Path, fake_clip: object, fake_selfmask: object) -> Any:
    vocabulary = write_vocabulary(tmp_path / "v.txt", NAMES)

    def build(corpus: Path | str, **settings: Any) -> Build:
        return build_here(settings_of(corpus, vocabulary, tmp_path / "store", **settings))

    return build


def jpeg(colour: str, seed: int) -> bytes:
    file = io.BytesIO()
    coloured_image(colour, seed).save(file, "JPEG", quality=92)
    return file.getvalue()


def told(build: Build) -> str:
    return summarise(build, []).facts["other files"]


def test_other_files_of_folders_and_tars_are_reported_together(corpus: Path, run: Any) -> None:
    write(corpus / "notes.txt", b"x")
    write(corpus / "red-000.png", palette_png())
    write(corpus / "LICENSE", b"x")
    members = [("9.jpg", jpeg("red", 9)), ("9.txt", b"x"), ("9.cls", b"1")]
    write(corpus / "more.tar", tar_bytes([*members, ("deep/8", jpeg("green", 8))]))
    build = run(corpus)
    assert build.index.counts["images"] == 8
    assert told(build) == "1 without extension, 1 cls, 1 label map, 2 txt"


@pytest.mark.parametrize("masks_first", [False, True])
def test_shards_of_a_build_are_a_corpus_of_their_photographs(
    corpus: Path, run: Any, tmp_path: Path, masks_first: bool
) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    for path in Path(run(corpus).dataset.location).glob("*.tar"):
        shutil.copy(path, shards)
        if masks_first:  # as somebody may pack them anew
            with tarfile.open(path) as tar:
                members = [(m.name, tar.extractfile(m).read()) for m in tar.getmembers()]
            write(shards / path.name, tar_bytes(members[::-1]))
    again = run(f"{shards}/*.tar")
    summary = summarise(again, [])
    assert again.index.counts["images"] == 6
    assert summary.rejects == {"label_map": 6}
    assert summary.facts["other files"] == "6 json"


def test_patterns_are_about_members_of_tars_too(corpus: Path, run: Any) -> None:
    members = [("train/8.jpg", jpeg("red", 8)), ("val/9.jpg", b"broken"), ("9.txt", b"x")]
    write(corpus / "more.tar", tar_bytes(members))
    build = run(corpus, include=("train/*", "red-*"), exclude=("./red-000*",))
    assert build.index.counts["images"] == 3
    assert told(build) == "5 excluded, 1 txt"
    assert summarise(build, []).rejects == {}


def test_patterns_that_leave_nothing_of_tars_are_one_sentence(tmp_path: Path, run: Any) -> None:
    write(tmp_path / "t.tar", tar_bytes([("a.jpg", jpeg("red", 1)), ("a.txt", b"x")]))
    with pytest.raises(CorpusError, match=r"leave no image of the corpus \(1 excluded, 1 txt\)"):
        run(tmp_path / "t.tar", include=("*.png",))


def test_a_column_needs_a_table(corpus: Path, run: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no table"):
        run(corpus, uri_column="photo")
    write(tmp_path / "t.csv", b"photo,url\ncorpus/red-000.jpg,x\ncorpus/red-001.jpg,x\n")
    assert run(tmp_path / "t.csv", uri_column="photo").index.counts["images"] == 2


def test_samples_of_a_pattern_are_named_from_where_it_begins(
    corpus: Path, run: Any, tmp_path: Path
) -> None:
    build = run(f"{tmp_path}/cor*/*.jpg")
    samples = ShardSamples.open(build.dataset)
    facts = [json.loads(samples.read(number).facts) for number in range(len(samples))]
    assert {fact["uri"].partition("-")[0] for fact in facts} == {
        "corpus/red", "corpus/green",
    }  # fmt: skip
