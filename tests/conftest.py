"""Settings of all tests: no network, one thread a library; and tiny networks as fixtures."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")

# Workers share the cores; and with several threads, small products wait for one another's.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from tests.support.processes import compiled_modules  # noqa: F401 - before what takes long to compile

# isort: split
from tests.support.networks.fakes import FakeClip, FakeSelfMask
from tests.support.processes.shared_by_workers import remove_shared_folder


def pytest_unconfigure(config: pytest.Config) -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        remove_shared_folder()


@pytest.fixture
def fake_clip(monkeypatch: pytest.MonkeyPatch) -> FakeClip:
    """Every CLIP that a stage loads is this one."""
    clip = FakeClip()
    for module in (
        "tasks.indexing.embed_images", "tasks.indexing.ask_again", "tasks.indexing.embed_crops",
        "tasks.retrieval.embed_text", "tasks.retrieval.embed_examples", "flows.looking.search",
        "flows.deciding.image_search",
    ):  # fmt: skip
        monkeypatch.setattr(f"{module}.load_clip_model", lambda config: clip)
    return clip


@pytest.fixture
def fake_selfmask(monkeypatch: pytest.MonkeyPatch) -> FakeSelfMask:
    """Every SelfMask that a stage loads is this one."""
    network = FakeSelfMask()
    monkeypatch.setattr("tasks.masking.make_masks.load_selfmask_model", lambda config: network)
    return network


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Real photographs: `ZUTIS_TEST_DATA`, or `../shared/data` beside the checkout."""
    named = os.environ.get("ZUTIS_TEST_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no test data: set ZUTIS_TEST_DATA or provide {folder}")
    return folder
