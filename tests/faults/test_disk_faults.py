"""Full and read-only disks: a small tmpfs, where one may be mounted."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_builds import Build, Run, Undisturbed, published
from fault_servers import PrefectServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

# Embeddings and masks fit, and so do checkpoints at first; the trained weights don't.
SMALL, LARGE = "2m", "400m"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={LARGE}", "tmpfs", str(place)]
    tried = subprocess.run(mount, capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {tried.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def remount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)


def check_it_names(run: Run, what_is_wrong: str) -> None:
    """The run ends with one sentence for a user."""
    assert run.wait() == 2, run.text()
    last = run.text().strip().splitlines()[-1]
    assert last.startswith("Error: Could not write")
    assert what_is_wrong in last
    assert "Traceback" not in run.text()


def test_a_full_disk_is_named_and_the_build_goes_on_when_there_is_room(
    workshop: Path, prefect_server: PrefectServer, undisturbed: Undisturbed, disk: Path
):
    remount(disk, f"size={SMALL}")
    build = Build(workshop, str(disk / "full"), server=prefect_server, forked=True)
    run = build.start()
    check_it_names(run, "the disk is full")

    remount(disk, f"size={LARGE}")
    again = build.finish()
    assert published(build.store) == undisturbed.content
    ended = {e["what"] for e in run.events() if e["kind"] == "end" and e["what"]}
    assert ended
    assert not ended & {e["what"] for e in again.events() if e["kind"] == "begin"}


def test_a_read_only_store_serves_its_artifacts_and_is_named_in_write_errors(
    workshop: Path, prefect_server: PrefectServer, undisturbed: Undisturbed, disk: Path
):
    build = Build(workshop, str(disk / "store"), train=False, server=prefect_server, forked=True)
    build.finish()
    remount(disk, "ro")
    cached = build.finish()
    assert "embed_images: cached, 5 parts" in cached.text()
    assert published(build.store) == undisturbed.built

    build.train = True
    check_it_names(build.start(), "the disk is read-only")
