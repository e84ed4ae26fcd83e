"""`zutis build` as a process of its own: real Prefect, open_clip, SelfMask and WebDataset."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storage.artifacts.store import ArtifactStore
from tests.support.files.coloured_images import write_corpus
from tests.support.processes.nursery import ZUTIS, run_zutis
from tests.support.servers.prefect_homes import prepared_home

pytestmark = pytest.mark.slow

DEADLINE = 240.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, a vocabulary, and the stores of this module's builds."""
    folder = tmp_path_factory.mktemp("end-to-end")
    write_corpus(folder / "pictures", ["red", "green", "blue"], each=4)
    (folder / "colours.txt").write_text("red\ngreen\nblue\n")
    return folder


@pytest.fixture(scope="module")
def environment(folder: Path) -> dict[str, str]:
    """The environment of a user without Prefect settings."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    return {
        **ours,
        "PREFECT_HOME": str(prepared_home(folder / "prefect")),
        "PYTHONPATH": str(Path(__file__).parents[3]),
        "COLUMNS": "200",
    }


def build_command(folder: Path, store: str) -> list[str]:
    return [
        "build", "--corpus", str(folder / "pictures"),
        "--vocabulary", str(folder / "colours.txt"), "--per-category", "6",
        "--clip", "made-ViT-8:random:0", "--selfmask", "random:0", "--mask-size", "48",
        "--part-images", "5", "--mask-part-images", "3", "--store", str(folder / store),
    ]  # fmt: skip


def run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return run_zutis(command, Path.cwd(), environment, timeout=DEADLINE)


@pytest.fixture(scope="module")
def whole(folder: Path, environment: dict[str, str]) -> ArtifactStore:
    """The store of a build without interruption."""
    build = run(build_command(folder, "whole"), environment)
    assert build.returncode == 0, build.stderr
    assert "untrained" in build.stdout
    return ArtifactStore(str(folder / "whole"))


def published(store: ArtifactStore) -> dict[str, str]:
    """sha256 of every published file, by stage, key and name."""
    return {
        f"{artifact.ref}/{name}": entry["sha256"]
        for stage in store.stages()
        for artifact in store.published(stage)
        for name, entry in artifact.files.items()
    }


def test_a_finished_build_is_cached_and_loads_no_heavy_library(
    whole: ArtifactStore, folder: Path, environment: dict[str, str]
):
    before = published(whole)
    cached = subprocess.run(
        [sys.executable, "-c", ZUTIS, *build_command(folder, "whole")],
        env={**environment, "PYTHONPROFILEIMPORTTIME": "1"},
        capture_output=True, text=True, timeout=DEADLINE, check=False,
    )  # fmt: skip
    assert cached.returncode == 0, cached.stderr
    imported = {line.split("|")[-1].strip() for line in cached.stderr.splitlines()}
    assert "pyarrow" in imported
    assert not imported & {"torch", "open_clip", "faiss", "prefect"}
    assert published(ArtifactStore(whole.root)) == before


def test_the_card_s_own_code_reads_the_shards(whole: ArtifactStore, environment: dict[str, str]):
    [dataset] = whole.published("assemble_dataset")
    card = Path(dataset.uri("README.md")).read_text()
    assert "untrained weights" in card
    code = card.split("```python\n")[1].split("```")[0]
    program = (
        "found = []\n"
        + code.replace('    sample["jpg"]', '    found.append(sample); sample["jpg"]')
        + "import json\n"
        + "maps = [sample['mask.png'] for sample in found]\n"
        + "print(json.dumps([[m.shape, np.unique(m).tolist(), str(m.dtype)] for m in maps]))\n"
    )
    read = subprocess.run(
        [sys.executable, "-c", program],
        cwd=dataset.location,
        capture_output=True,
        text=True,
        check=False,
    )
    assert read.returncode == 0, read.stderr
    maps = json.loads(read.stdout)
    assert len(maps) == dataset.counts["samples"] > 0
    for shape, labels, dtype in maps:
        assert shape == [48, 40]
        assert dtype == "torch.int64"
        assert len(labels) == 2
        assert set(labels) <= {0, 1, 2, 3}


def test_search_finds_images_and_refuses_another_model(
    whole: ArtifactStore, environment: dict[str, str]
):
    search = ["search", "something red", "--top", "3", "--store", whole.root]
    found = run(search, environment)
    assert found.returncode == 0, found.stderr
    assert found.stdout.count(".jpg") == 3
    assert "untrained" in found.stdout.lower()

    other = run([*search, "--clip", "made-ViT-8:random:1"], environment)
    assert other.returncode == 2
    assert "was made with made-ViT-8:random:0" in other.stderr
    assert "Traceback" not in other.stderr


def test_real_photographs_and_tars_together(
    test_data: Path, folder: Path, environment: dict[str, str]
):
    build = run(
        ["build", "--corpus", str(test_data / "coco128" / "images"),
         "--corpus", str(test_data / "webdataset" / "*.tar"),
         "--vocabulary", str(folder / "colours.txt"), "--per-category", "4",
         "--clip", "made-ViT-8:random:0", "--selfmask", "random:0", "--mask-size", "64",
         "--store", str(folder / "real")],
        environment,
    )  # fmt: skip
    assert build.returncode == 0, build.stderr
    store = ArtifactStore(str(folder / "real"))
    [index] = store.published("build_index")
    assert index.counts == {"images": 135, "duplicates": 4, "rejects": {}, "elongated": 24}
    assert "24 images are beyond 1.5 : 1" in build.stdout
    [dataset] = store.published("assemble_dataset")
    assert dataset.counts["samples"] > 0
    import webdataset

    shards = [dataset.uri(name) for name in dataset.files if name.endswith(".tar")]
    for sample in webdataset.WebDataset(shards, shardshuffle=False).decode("pill"):
        picture, mask = sample["jpg"], np.asarray(sample["mask.png"])
        assert isinstance(picture, Image.Image)
        assert picture.size == (mask.shape[1], mask.shape[0])
