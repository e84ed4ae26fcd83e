"""The demonstration as users run it, the small one: the science in numbers, and what it leaves."""

from __future__ import annotations

import html
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flows.demo_settings import LEFT_OUT
from made_world.kinds import KINDS

pytestmark = pytest.mark.slow

DEADLINE = 280


def zutis(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return subprocess.run(
        [sys.executable, "-m", "flows", "demo", "--quick", *options],
        env=ours | {
            "PREFECT_HOME": str(folder / "prefect"),
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "COLUMNS": "200",
        },
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )  # fmt: skip


def figures(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        (folder / "zutis-demo-quick" / "figures.json").read_text(encoding="utf-8")
    )
    return found


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder and the terminal's text of a first run."""
    folder = tmp_path_factory.mktemp("demo")
    done = zutis(folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.mark.timeout(DEADLINE + 20)
def test_the_goals_are_reached(demo):
    missed = {
        one["name"]: (one["value"], one["goal"])
        for one in figures(demo[0])
        # How fast this machine is says nothing about the code.
        if one["reached"] is False and one["name"] != "wall time"
    }
    # Thirty seconds of training are too few for these, and the page says so.
    behind = {"instance AP50, times MaskCLIP's", "mean IoU of kinds left out, times MaskCLIP's"}
    assert missed.keys() <= behind


def test_the_pages_commands_work_as_printed(demo):
    folder, _ = demo
    page = html.unescape((folder / "zutis-demo-quick" / "index.html").read_text())
    [command] = re.findall(r"zutis (predict [^<]*)", page)
    done = subprocess.run(
        [sys.executable, "-m", "flows", *shlex.split(command)],
        cwd=folder, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = re.search(r"(\d+) pictures, (\d+) instances of 2 categories", done.stdout)
    assert found, done.stdout
    assert int(found[2]) > 0


def test_the_tables_are_printed(demo):
    folder, output = demo
    for one in figures(folder):
        assert re.search(f"{re.escape(one['name'])}.*{re.escape(one['value'])}", output), one
    assert "What came of it" in output
    assert str(Path("zutis-demo-quick") / "index.html") in output


def test_the_page_has_everything_and_needs_nothing(demo):
    html = (demo[0] / "zutis-demo-quick" / "index.html").read_text(encoding="utf-8")
    for kind in KINDS:
        assert kind in html
    assert html.count("data:image/jpeg;base64,") > 2 * len(KINDS)
    assert "<svg" in html
    assert "MaskCLIP" in html
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', html)


def test_again_it_is_all_there(demo):
    folder, first = demo
    before = figures(folder)
    done = zutis(folder)
    assert done.returncode == 0, done.stderr
    assert "Starting Prefect" in first
    assert "Starting Prefect" not in done.stdout
    assert figures(folder) == before


def test_one_more_name_costs_only_its_own(demo):
    folder, _ = demo
    done = zutis(folder, "--vocabulary", "zutis-demo-quick/one-more.txt")
    assert done.returncode == 0, done.stderr
    assert "red heart" in done.stdout
    # Nothing of the corpus is embedded anew, and no network is trained.
    assert re.search(r"embed_images: cached", done.stdout)
    assert "train" not in re.findall(r"^(\w+): ", done.stdout, re.MULTILINE)


def test_kinds_left_out_are_kinds():
    assert len(set(LEFT_OUT) & set(KINDS)) == 4
