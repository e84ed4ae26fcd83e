"""Groups from a file take the place of found ones, whatever the file names images by."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.artifacts.store import Artifact
from storage.corpora.duplicate_groups import read_groups
from storage.errors.exceptions import CorpusError
from tasks.duplicates import import_duplicates
from tasks.duplicates.groups import SCHEMA
from tasks.duplicates.import_duplicates import Config, Inputs
from tasks.stage.contract import SilentProgress
from tasks.stage.layout import DUPLICATES, RETRIEVED_IMAGES
from tests.support.files.coloured_images import write_corpus
from tests.support.files.made_copies import names_of
from tests.support.networks.fakes import FakeClip
from tests.support.runs.builds import rows_of
from tests.support.runs.stages import Stages


@pytest.fixture
def index(stages: Stages, corpus: Path, fake_clip: FakeClip) -> Artifact:
    write_corpus(corpus, ["red", "blue"], each=3)
    return stages.index(stages.scan(corpus, part_images=4))


def imported(
    stages: Stages, index: Artifact, file: Path, retrieval: Artifact | None = None
) -> Artifact:
    config = Config(groups=str(file), digest=read_groups(str(file)).digest)
    inputs = Inputs(index.ref, retrieval.ref if retrieval else None)
    return import_duplicates.run(config, inputs, stages.store, SilentProgress())


def groups_of(stages: Stages, index: Artifact, found: Artifact) -> list[list[str]]:
    names, groups = names_of(stages, index), {}
    for row in rows_of(found, DUPLICATES):
        groups.setdefault(row["group"], []).append(names[row["image_id"]])
    return sorted(sorted(members) for members in groups.values())


def test_paths_and_image_ids_give_the_same_groups(
    stages: Stages, index: Artifact, corpus: Path, tmp_path: Path
) -> None:
    grouped = {"red-000.jpg": 1, "red-002.jpg": 1, "blue-001.jpg": 2, "blue-000.jpg": 2}
    by_path = tmp_path / "paths.csv"
    by_path.write_text(
        "path,group\n"
        + "".join(f"corpus/{name},{group}\n" for name, group in grouped.items())
        + "corpus/gone.jpg,2\n"
    )
    ids = {name: image_id for image_id, name in names_of(stages, index).items()}
    by_id = tmp_path / "ids.csv"
    by_id.write_text(
        "image_id,group\n" + "".join(f"{ids[name]},{group}\n" for name, group in grouped.items())
    )
    expected = [["blue-000.jpg", "blue-001.jpg"], ["red-000.jpg", "red-002.jpg"]]
    found = imported(stages, index, by_path)
    assert groups_of(stages, index, found) == expected
    assert found.counts == {"images": 6, "named": 5, "unknown": 1, "groups": 2, "duplicates": 2}
    assert groups_of(stages, index, imported(stages, index, by_id)) == expected
    assert set(rows_of(found, DUPLICATES)[0]) == set(SCHEMA.names)


def test_a_retrieval_restricts_the_groups(stages: Stages, index: Artifact, tmp_path: Path) -> None:
    retrieval = stages.retrieve(index, ["red"], 2)
    kept = {row["image_id"] for row in rows_of(retrieval, RETRIEVED_IMAGES)}
    file = tmp_path / "groups.csv"
    file.write_text("image_id,group\n" + "".join(f"{i},x\n" for i in names_of(stages, index)))
    found = imported(stages, index, file, retrieval)
    assert {row["image_id"] for row in rows_of(found, DUPLICATES)} == kept
    assert found.counts["images"] == 2


def test_equal_files_are_one_image(stages: Stages, corpus: Path, fake_clip: FakeClip) -> None:
    [path] = write_corpus(corpus, ["red"], each=1)
    (corpus / "copy.jpg").write_bytes(path.read_bytes())
    write_corpus(corpus, ["blue"], each=1)
    index = stages.index(stages.scan(corpus))
    file = corpus / "groups.csv"
    file.write_text("path,group\ncopy.jpg,1\nblue-000.jpg,1\n")
    found = imported(stages, index, file)
    assert found.counts["duplicates"] == 1


def test_a_file_of_other_images_is_refused(stages: Stages, index: Artifact, tmp_path: Path) -> None:
    file = tmp_path / "groups.csv"
    file.write_text("path,group\nx.jpg,1\ny.jpg,1\n")
    with pytest.raises(CorpusError, match=r"^None of the 2 images that .*groups\.csv names is in"):
        imported(stages, index, file)


def test_the_content_decides_the_key_and_must_not_change(
    stages: Stages, index: Artifact, tmp_path: Path
) -> None:
    inputs = Inputs(index.ref)
    keys = {
        import_duplicates.locate(Config(groups=name, digest=digest), inputs, stages.store)
        for name, digest in [("a.csv", "1"), ("b.csv", "1"), ("a.csv", "2")]
    }
    assert len(keys) == 2
    file = tmp_path / "groups.csv"
    file.write_text(f"image_id,group\n{'a' * 64},1\n")
    with pytest.raises(CorpusError, match="has changed since this run began"):
        import_duplicates.run(
            Config(groups=str(file), digest="other"), inputs, stages.store, SilentProgress()
        )
