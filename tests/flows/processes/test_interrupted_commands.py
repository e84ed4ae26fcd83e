"""Signals to real commands: one line, the exit code, and no surviving process."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.support.files.coloured_images import write_corpus
from tests.support.processes.terminals import CTRL_C, Terminal
from tests.support.runs.builds import build_here, settings_of, small_training, train_here
from tests.support.servers.prefect_homes import prepared_home

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ZUTIS = [sys.executable, "-c", "from flows.launcher import main; main()"]
KEPT = "the same command goes on from"
SERVER = "flows.processes.attached"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a user without Prefect settings."""
    return {
        **{name: os.environ[name] for name in os.environ if not name.startswith("PREFECT_")},
        "PREFECT_HOME": str(prepared_home(tmp_path_factory.mktemp("prefect"))),
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, and a data set made of them."""
    folder = tmp_path_factory.mktemp("interrupted")
    write_corpus(folder / "pictures", ["red", "green", "blue"], each=12)
    (folder / "colours.txt").write_text("red\ngreen\nblue\n")
    build_here(
        settings_of(folder / "pictures", folder / "colours.txt", folder / "store", per_category=2)
    )
    return folder


def build(store: str, *options: str) -> list[str]:
    return [
        *ZUTIS, "build", "--corpus", "pictures", "--vocabulary", "colours.txt",
        "--clip", "made-ViT-8:random:0", "--selfmask", "random:0", "--mask-size", "48",
        "--part-images", "4", "--mask-part-images", "3", "--store", store, *options,
    ]  # fmt: skip


TRAIN = [
    *ZUTIS, "train", "--clip", "made-ViT-8:random:0", "--iterations", "100000", "--batch-size", "2",
    "--set", "crop=32", "--set", "workers=1", "--set", "log_every=1", "--store", "store",
]  # fmt: skip


@pytest.mark.parametrize(
    ("command", "at", "number", "code", "forked"),
    [
        (build("new-1"), "Starting Prefect", signal.SIGINT, 130, False),
        (build("new-2"), "embed_images", signal.SIGTERM, 143, True),
        (build("new-3"), "make_masks", signal.SIGHUP, 129, True),
        (TRAIN, "loss", signal.SIGINT, 130, True),
        ([*ZUTIS, "demo", "--quick"], "Drawing", signal.SIGINT, 130, False),
    ],
    ids=["start", "embedding", "masks", "training", "demo"],
)
def test_it_ends_in_a_line_and_alone(command, at, number, code, forked, folder, environment):
    with Terminal(command, folder, environment, forked=forked) as terminal:
        terminal.wait_for(at)
        if number == signal.SIGINT:
            terminal.press(CTRL_C)
        else:
            terminal.signal(number)
        assert terminal.wait() == code, terminal.text
        assert terminal.text.count(KEPT) == 1
        assert terminal.text.rstrip().splitlines()[-1].endswith("."), terminal.text
        for noise in ("Traceback", "Error", "refused", "Exception"):
            assert noise not in terminal.text, terminal.text
        assert terminal.survivors() == []


def test_an_evaluation_ends_likewise(folder, environment, test_data):
    train_here(folder / "store", small_training(iterations=1, crop=32))
    truth = f"coco:{test_data}/coco128/annotations/instances.json@{test_data}/coco128/images"
    command = [*ZUTIS, "evaluate", "--on", truth, "--store", "store"]
    with Terminal(command, folder, environment, forked=True) as terminal:
        terminal.wait_for("evaluate")
        terminal.press(CTRL_C)
        assert terminal.wait() == 130, terminal.text
        assert terminal.text.count(KEPT) == 1
        assert "Traceback" not in terminal.text
        assert terminal.survivors() == []


@pytest.mark.parametrize(
    "moment", ["the server is a process", "Starting Prefect", "embed_images", "training"]
)
def test_nobody_outlives_a_command_that_was_killed(moment, folder, environment):
    command = TRAIN if moment == "training" else build(f"killed at {moment}")
    forked = moment in ("embed_images", "training")
    with Terminal(command, folder, environment, forked=forked) as terminal:
        if moment == "the server is a process":
            terminal.wait_for_child(SERVER)
        else:
            terminal.wait_for("loss" if moment == "training" else moment)
        terminal.signal(signal.SIGKILL)
        assert terminal.wait() == -signal.SIGKILL
        assert terminal.survivors() == []


def test_nobody_outlives_a_zutis_serve_that_was_killed(folder, environment):
    command = [*ZUTIS, "serve", "--port", "4931"]
    with Terminal(command, folder, environment) as terminal:
        terminal.wait_for("Ctrl-C stops all of it")
        terminal.signal(signal.SIGKILL)
        assert terminal.wait() == -signal.SIGKILL
        assert terminal.survivors() == []
