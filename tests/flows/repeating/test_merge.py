"""`zutis merge`: two builds' labels under one vocabulary, as a data set that training reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from flows.builds.found import find_build
from flows.execution.executors import LocalExecutor
from flows.pipelines.build import Build
from flows.pipelines.rounds import train_rounds
from flows.pipelines.training import train_model
from flows.settings.training import training_config
from flows.upkeep.collect_garbage import find_garbage
from storage.artifacts.store import Artifact, ArtifactStore
from storage.errors.exceptions import ArtifactError, ConfigError
from storage.shards.samples import ShardSamples
from tests.support.files.coloured_images import write_corpus
from tests.support.networks.fakes import FakeClip, FakeSelfMask
from tests.support.runs.builds import (
    build_here,
    settings_of,
    small_training,
    write_vocabulary,
)
from tests.support.runs.command_line import said


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def builds(
    tmp_path: Path, store: Path, fake_clip: FakeClip, fake_selfmask: FakeSelfMask
) -> tuple[Build, Build]:
    """One of red and green things, one of green and blue ones, of the same images."""
    write_corpus(tmp_path / "corpus", ["red", "green", "blue"], each=4)
    made = []
    for number, names in enumerate((["red", "green"], ["green", "blue"])):
        vocabulary = write_vocabulary(tmp_path / f"v{number}.txt", names)
        made.append(build_here(settings_of(tmp_path / "corpus", vocabulary, store)))
    return made[0], made[1]


def merged(output: str, store: Path) -> Artifact:
    key = output.rsplit(" ", 1)[1].strip()
    there = ArtifactStore(str(store))
    return next(one for one in there.published("assemble_dataset") if one.key.startswith(key))


def vocabulary(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "all.yaml"
    path.write_text(f"categories:\n{text}")
    return path


ALL = "- name: azure\n  synonyms: [blue]\n- name: red\n- name: Green\n"


def test_images_of_both_are_one_sample_and_categories_are_numbered_anew(
    builds: tuple[Build, Build], store: Path, tmp_path: Path
) -> None:
    first, second = builds
    output = said(
        "merge", first.dataset.key[:12], second.dataset.key[:12],
        "--vocabulary", vocabulary(tmp_path, ALL), "--store", store,
    )  # fmt: skip
    made = merged(output, store)
    samples = ShardSamples.open(made)
    old = [ShardSamples.open(one.dataset) for one in builds]
    keys = [{one.key(at) for at in range(len(one))} for one in old]
    assert {samples.key(at) for at in range(len(samples))} == keys[0] | keys[1]
    assert samples.categories == {1: "azure", 2: "red", 3: "Green"}
    names = {
        one.key(at): one.categories[int(one.labels[at])] for one in old for at in range(len(one))
    }
    new = {"blue": "azure", "red": "red", "green": "Green"}
    for at in range(len(samples)):
        stored = samples.read(at)
        assert samples.categories[int(samples.labels[at])] == new[names[samples.key(at)]]
        mask = samples.decode_object(at, stored, 0)
        np.testing.assert_array_equal(
            samples.decode_labels(at, stored.mask), np.where(mask, samples.labels[at], 0)
        )
    both = keys[0] & keys[1]
    assert made.counts["left_out"] == {"labelled_twice": len(both)}
    facts = json.loads(samples.read(0).facts)
    assert facts["objects"][0]["name"] == samples.categories[int(samples.labels[0])]


def test_the_same_again_is_found_and_garbage_collection_keeps_it(
    builds: tuple[Build, Build], store: Path, tmp_path: Path
) -> None:
    words = ["merge", *(one.dataset.key for one in builds), "--vocabulary",
             vocabulary(tmp_path, ALL), "--store", store]  # fmt: skip
    first = merged(said(*words), store)
    assert merged(said(*words), store).ref == first.ref
    garbage = find_garbage(ArtifactStore(str(store)), before=2**40, unreferenced=True)
    assert first.ref not in {one.ref for one in garbage}


def test_training_reads_it_and_takes_a_build_s_by_default(
    builds: tuple[Build, Build], store: Path, tmp_path: Path
) -> None:
    made = merged(
        said("merge", *(one.dataset.key for one in builds), "--vocabulary",
             vocabulary(tmp_path, ALL), "--store", store), store)  # fmt: skip
    there = ArtifactStore(str(store))
    assert find_build(there).dataset.key in {one.dataset.key for one in builds}
    trained = train_model(training_config(small_training()), made, LocalExecutor(there))
    assert trained.manifest["inputs"]["dataset"] == made.key
    with pytest.raises(ArtifactError, match="merged from several builds"):
        find_build(there, made.key)
    with pytest.raises(ConfigError, match="can't be looked at again"):
        train_rounds(training_config(small_training()), 2, made, None)  # type: ignore[arg-type]


def test_labels_of_other_categories_are_left_out_and_counted(
    builds: tuple[Build, Build], store: Path, tmp_path: Path
) -> None:
    output = said("merge", *(one.dataset.key for one in builds), "--vocabulary",
                  vocabulary(tmp_path, "- name: red\n"), "--store", store)  # fmt: skip
    made = merged(output, store)
    assert set(made.counts["left_out"]) == {"unknown_category"}
    assert "unknown_category" in output
    card = Path(made.location.removeprefix("file://"), "README.md").read_text()
    assert "labels of categories that the vocabulary lacks" in card


def test_mistakes_are_sentences(builds: tuple[Build, Build], store: Path, tmp_path: Path) -> None:
    first, second = (one.dataset.key for one in builds)
    with pytest.raises(ArtifactError, match="No label of these data sets"):
        said("merge", first, second, "--vocabulary", vocabulary(tmp_path, "- name: dog\n"),
             "--store", store)  # fmt: skip
    for words, match in (((first, first), "name two"), ((first, second, "--name", "a/b"), "a/b")):
        with pytest.raises(ConfigError, match=match):
            said("merge", *words, "--vocabulary", vocabulary(tmp_path, ALL), "--store", store)
