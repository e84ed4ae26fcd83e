"""The data set's folder, as other programs open it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from flows.pipelines.build import Build
from flows.summaries.build import summarise
from storage.shards.card import cell
from tasks.packing.assemble_dataset import _depth_warning, decode_alike
from tasks.stage.layout import CARD, VOCABULARY
from tests.support.files.coloured_images import write_corpus
from tests.support.networks.fakes import FakeClip, FakeSelfMask
from tests.support.runs.builds import build_here, settings_of, write_vocabulary

NAMES = ["red", "green", "blue"]


@pytest.fixture
def built(tmp_path: Path, fake_clip: FakeClip, fake_selfmask: FakeSelfMask) -> Build:
    write_corpus(tmp_path / "corpus", NAMES, each=4)
    vocabulary = write_vocabulary(tmp_path / "colours.txt", NAMES)
    return build_here(settings_of(tmp_path / "corpus", vocabulary, tmp_path / "store"))


def test_shards_have_contiguous_names_and_are_linked(built: Build) -> None:
    shards = [name for name in built.dataset.files if name.endswith(".tar")]
    assert len(shards) > 1
    assert sorted(shards) == [f"colours-{n:06d}.tar" for n in range(len(shards))]
    for name in shards:
        assert Path(built.dataset.uri(name)).stat().st_nlink == 2


def test_the_vocabulary_is_beside_the_shards(built: Build) -> None:
    assert built.dataset.read_json(VOCABULARY) == [
        {"category_id": number, "name": name, "external_id": ""}
        for number, name in enumerate(NAMES, start=1)
    ]


def test_the_card_describes_the_data_set_and_its_origin(built: Build) -> None:
    card = built.dataset.open(CARD).read().decode()
    _, head, body = card.split("---\n", 2)
    assert yaml.safe_load(head)["configs"] == [{"config_name": "default", "data_files": "*.tar"}]
    for number, name in enumerate(NAMES, start=1):
        assert f"| {number} | {name} | 4 | 4 | 0 |" in body
    assert "12 pictures with pseudo-labels for 3 categories" in body
    assert str(built.shard_plan.ref) in body
    assert str(built.retrieval.ref) in body
    assert "licences" in body.lower()
    assert "Made with untrained weights" in body
    assert built.dataset.notes["untrained"] is True


def test_trained_weights_are_not_called_untrained(built: Build, tmp_path: Path) -> None:
    from tasks.packing import assemble_dataset
    from tasks.stage.contract import SilentProgress

    shards = built.dataset.manifest["inputs"]["shards"]
    from storage.artifacts.store import ArtifactRef

    artifact = assemble_dataset.run(
        assemble_dataset.Config(name="x", clip="A:0123", selfmask="B:4567", untrained=False),
        assemble_dataset.Inputs(
            built.shard_plan.ref, tuple(ArtifactRef("pack_shards", key) for key in shards)
        ),
        built.dataset.store,
        SilentProgress(),
    )
    card = artifact.open(CARD).read().decode()
    assert "untrained" not in card
    assert "`A:0123`" in card
    assert "x-{000000.." in card


def test_names_stay_within_their_cells() -> None:
    assert cell("a|b\\c") == "a\\|b\\\\c"


def code_blocks(card: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", card, re.DOTALL)


def run_code(code: str, folder: Path, cache: Path) -> list[str]:
    """The output of the code, run as a program in the data set's folder."""
    program = cache / "program.py"
    program.write_text(code)
    environment = os.environ | {"HF_HOME": str(cache / "hf"), "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, program], cwd=folder, env=environment, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("shard_mb", "workers"),
    [(256, 2), pytest.param(0.04, 2, marks=pytest.mark.slow),
     pytest.param(256, 0, marks=pytest.mark.slow), pytest.param(0.04, 0, marks=pytest.mark.slow)],
)  # fmt: skip
def test_the_cards_loader_reads_every_sample_once(
    tmp_path: Path, fake_clip: FakeClip, fake_selfmask: FakeSelfMask, shard_mb: float, workers: int
) -> None:
    write_corpus(tmp_path / "corpus", NAMES, each=4)
    vocabulary = write_vocabulary(tmp_path / "colours.txt", NAMES)
    dataset = build_here(
        settings_of(tmp_path / "corpus", vocabulary, tmp_path / "store", shard_mb=shard_mb)
    ).dataset
    assert (dataset.counts["shards"] == 1) == (shard_mb > 1)
    code = code_blocks(dataset.open(CARD).read().decode())[0]
    assert "num_workers=2" in code
    code = code.replace("num_workers=2", f"num_workers={workers}")
    code += '        print(sample["__key__"], int(sample["mask.png"].max()))\n'
    printed = run_code(code, Path(dataset.location), tmp_path)
    assert len(set(printed[::2])) == len(printed[::2]) == 12
    assert sorted(printed[1::2]) == ["1"] * 4 + ["2"] * 4 + ["3"] * 4


@pytest.mark.slow
def test_the_cards_other_code_runs_as_it_stands(built: Build, tmp_path: Path) -> None:
    blocks = code_blocks(built.dataset.open(CARD).read().decode())
    assert len(blocks) == 3
    folder = Path(built.dataset.location)
    assert run_code(blocks[1] + "print(len(samples))\n", folder, tmp_path) == ["12"]
    labels = run_code(blocks[2] + "            print(labels.max())\n", folder, tmp_path)
    assert set(labels) <= {"1", "2", "3"}
    assert labels


def test_names_that_decode_alike_under_8_bits_are_found() -> None:
    names = {number: f"n{number}" for number in range(1, 258)}
    assert decode_alike(names) == ["n255", "n256", "n257"]
    assert decode_alike({number: names[number] for number in range(1, 256)}) == ["n255"]
    assert decode_alike({number: names[number] for number in range(1, 255)}) == []


def test_only_label_maps_of_16_bits_are_warned_about() -> None:
    assert _depth_warning(255, []) == ""
    assert "n255, n256" in _depth_warning(65_535, ["n255", "n256"])


def test_many_names_are_warned_about_while_building_and_in_the_card(
    tmp_path: Path, fake_clip: FakeClip, fake_selfmask: FakeSelfMask
) -> None:
    write_corpus(tmp_path / "corpus", NAMES, each=4)
    many = [*NAMES, *(f"other {number}" for number in range(300))]
    vocabulary = write_vocabulary(tmp_path / "many.txt", many)
    built = build_here(
        settings_of(tmp_path / "corpus", vocabulary, tmp_path / "store", shard_mb=256)
    )
    assert built.dataset.notes["decode_alike"] == 303 - 254
    assert summarise(built, []).facts["16-bit maps"].startswith("readers of 8 bits take 49 names")
    assert "16 bits" in built.dataset.open(CARD).read().decode()


@pytest.mark.slow
def test_hugging_face_datasets_reads_the_shards(
    built: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True, raising=False)
    samples = datasets.load_dataset(
        "webdataset",
        data_files=f"{built.dataset.location}/colours-*.tar",
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    assert len(samples) == 12
    sample = samples[0]
    assert sample["jpg"].size == sample["mask.png"].size == (40, 48)
    assert sample["json"]["categories"][0]["name"] == "red"
