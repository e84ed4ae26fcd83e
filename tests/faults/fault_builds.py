"""Small builds in processes of their own, and checks of their artifacts."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fault_nursery
from fault_servers import PrefectServer

from storage.artifacts.store import ArtifactRef, ArtifactStore
from tests.support.files.coloured_images import write_corpus
from tests.support.processes.nursery import ForkedCommand
from tests.support.processes.process_table import alive_with

REPOSITORY = Path(__file__).parents[2]
DRIVER = Path(__file__).with_name("fault_driver.py")
CLIP = "made-ViT-8:random:0"
ITERATIONS = 6
CHECKPOINT_EVERY = 2
TRAINING = {
    "clip": CLIP, "iterations": ITERATIONS, "batch_size": 2, "crop": 64, "max_objects": 2,
    "num_queries": 5, "num_decoder_layers": 1, "num_heads": 4, "workers": 0, "log_every": 1,
    "checkpoint_every": CHECKPOINT_EVERY,
}  # fmt: skip
# Seconds for one build on a busy machine.
DEADLINE = 900.0
# Stages that read the current state of the corpus or the store: they run every time.
LOOKING = {"scan", "plan_masks"}

Process = subprocess.Popen[bytes] | fault_nursery.ForkedProcess | ForkedCommand
# All runs, so that none outlives the test that started it.
STARTED: list[Run] = []


def write_workshop(folder: Path) -> None:
    """Thirty images and a vocabulary of three names."""
    write_corpus(folder / "images", ["red", "green", "blue"], each=10)
    (folder / "colours.txt").write_text("red\ngreen\nblue\n")


def prefect_environment(home: Path, server: PrefectServer | None) -> dict[str, str]:
    """The environment of a user who has only chosen a Prefect server."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    return {
        **ours,
        "PREFECT_HOME": str(home),
        **({"PREFECT_API_URL": server.url} if server else {}),
        "PYTHONPATH": str(REPOSITORY),
        "COLUMNS": "200",
        "OMP_NUM_THREADS": "1",
    }


@dataclass
class Build:
    """One build of the workshop's images, which may be started repeatedly.

    Attributes:
        folder: the workshop.
        store: where its artifacts are; a path or a URI.
        train: whether training follows.
        workers: number of parts that run at the same time.
        server: the Prefect server to use; None: each process starts its own.
        environment: variables in addition to the user's.
        home: its PREFECT_HOME; None: the workshop's.
        forked: all of its imports are done, with the session's server; see `fault_nursery`.
        fresh: started as a program, for what has to be there before any import; otherwise, as all
            that is not `forked`, it goes on from the libraries' imports; see `nursery`.
        label: name of its event logs; empty: the store's name.
        runs: number of starts.
    """

    folder: Path
    store: str
    train: bool = True
    workers: int = 1
    server: PrefectServer | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    home: Path | None = None
    forked: bool = False
    fresh: bool = False
    label: str = ""
    runs: int = 0

    @property
    def name(self) -> str:
        """Name of its event logs and outputs."""
        return self.label or self.store.rstrip("/").rsplit("/", 1)[-1]

    def arguments(self) -> list[str]:
        steps = ["--then", "train"] if self.train else []
        for name, value in TRAINING.items() if self.train else ():
            steps += ["--training", f"{name}={value}"]
        return [
            "build", "--corpus", str(self.folder / "images"),
            "--vocabulary", str(self.folder / "colours.txt"), "--per-category", "6",
            "--clip", CLIP, "--selfmask", "random:0", "--mask-size", "48", "--part-images", "6",
            "--mask-part-images", "3", "--shard-mb", "0.02", "--workers", str(self.workers),
            "--store", self.store, *steps,
        ]  # fmt: skip

    def start(self, kill: str = "") -> Run:
        """Start the command in a process group of its own.

        Args:
            kill: the event at which it kills itself, see `fault_driver`.
        """
        self.runs += 1
        diary = self.folder / f"{self.name}-diary-{self.runs}.jsonl"
        diary.unlink(missing_ok=True)
        output = self.folder / f"{self.name}-output-{self.runs}.txt"
        environment = {
            **prefect_environment(self.home or self.folder / "prefect", self.server),
            "FAULT_DIARY": str(diary),
            "FAULT_KILL": kill,
            **self.environment,
        }
        if self.forked:
            process = fault_nursery.fork(self.arguments(), environment, output)
            return self._started(process, diary, output)
        if not self.fresh:
            return self._started(self._copied(environment, output), diary, output)
        with output.open("wb") as file:
            command = subprocess.Popen(
                [sys.executable, str(DRIVER), *self.arguments()],
                cwd=self.folder,
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self._started(command, diary, output)

    def _copied(self, environment: Mapping[str, str], output: Path) -> ForkedCommand:
        code = f"import runpy; runpy.run_path({str(DRIVER)!r}, run_name='__main__')"
        with output.open("wb") as file, Path(os.devnull).open("rb") as nothing:
            streams = (nothing.fileno(), file.fileno(), file.fileno())
            return ForkedCommand(
                code, self.arguments(), self.folder, environment, streams, session=True
            )

    def _started(self, process: Process, diary: Path, output: Path) -> Run:
        run = Run(process, diary, output)
        STARTED.append(run)
        return run

    def finish(self) -> Run:
        """Run to the end and check that it succeeds."""
        run = self.start()
        assert run.wait() == 0, run.text()
        return run


@dataclass
class Run:
    """One process of a build.

    Attributes:
        process: leader of its group.
        diary: see `fault_driver`.
        output: what it printed.
    """

    process: Process
    diary: Path
    output: Path

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def wait(self, seconds: float = DEADLINE) -> int:
        """The exit code; a process that takes longer is killed, and the test fails."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"not done after {seconds} s: {self.text()}") from None

    def kill(self) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def wait_for(self, stage: str, kind: str = "begin", seconds: float = DEADLINE) -> None:
        """Wait until the event log has such an event."""
        until = time.monotonic() + seconds
        while not any((e["stage"], e["kind"]) == (stage, kind) for e in self.events()):
            assert self.process.poll() is None, f"ended before {stage}: {self.text()}"
            assert time.monotonic() < until, f"no {kind} of {stage}: {self.text()}"
            time.sleep(0.02)

    def events(self) -> list[dict[str, Any]]:
        """The logged events; the last line may be incomplete."""
        if not self.diary.exists():
            return []
        found = []
        for line in self.diary.read_text().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found

    def fatal_event(self) -> dict[str, Any] | None:
        return next((event for event in self.events() if event["fatal"]), None)

    def survivors(self, seconds: float = 10.0) -> list[int]:
        """Processes of this run that have not ended soon after it."""
        until = time.monotonic() + seconds
        while (found := self._processes()) and time.monotonic() < until:
            time.sleep(0.05)
        return found

    def _processes(self) -> list[int]:
        return alive_with("FAULT_DIARY", str(self.diary), session=self.process.pid)


@dataclass(frozen=True)
class Undisturbed:
    """A build and training without interruption.

    Attributes:
        content: sha256 of every file that it published, by stage, key and name.
        built: the same without training's.
        run: its process.
        seconds: its duration.
    """

    content: dict[str, str]
    run: Run
    seconds: float

    @property
    def built(self) -> dict[str, str]:
        return {name: sha for name, sha in self.content.items() if not name.startswith("train/")}


def published(store: str) -> dict[str, str]:
    """sha256 of every published file, read from the disk, by stage, key and name; without the
    plans of masks, which depend on the masks that were already there."""
    there = ArtifactStore(store)
    found = {}
    for stage in there.stages():
        for artifact in there.published(stage) if stage != "plan_masks" else ():
            assert artifact.problems(deep=True) == []
            found[str(artifact.ref)] = ""
            for name, entry in artifact.files.items():
                found[f"{artifact.ref}/{name}"] = entry["sha256"]
    return found


def unfinished(store: str) -> list[str]:
    """Attempts that no manifest names."""
    there = ArtifactStore(store)
    found = []
    for stage in there.stages():
        for key in there.keys(stage):
            ref = ArtifactRef(stage, key)
            artifact = there.find(ref)
            kept = artifact.manifest["attempt"] if artifact else None
            found += [f"{ref}/{name}" for name in there.attempts(ref) if name != kept]
    return found


def parts_of(events: Iterable[dict[str, Any]], kind: str) -> list[str]:
    """Keys of the parts that began or ended."""
    return [e["what"] for e in events if e["kind"] == kind and e["stage"] not in LOOKING]


def check_nothing_done_twice(runs: list[Run], workers: int) -> None:
    """Finished parts are never started again, a killed run loses only the parts that were running,
    and training resumes from its latest checkpoint."""
    ended: set[str] = set()
    begun: Counter[str] = Counter()
    in_flight = 0
    reached = 0
    for run in runs:
        events = run.events()
        began, done = parts_of(events, "begin"), parts_of(events, "end")
        assert not ended & set(began), "a finished part is begun again"
        lost = set(began) - set(done)
        assert len(lost) <= workers, f"{len(lost)} parts were in flight"
        in_flight += len(lost)
        begun.update(began)
        ended |= set(done)
        steps = [e["amount"] for e in events if e["stage"] == "train" and e["kind"] == "step"]
        if steps:
            resumed = steps[0]
            assert reached - resumed <= CHECKPOINT_EVERY, f"{reached} to {resumed} iterations"
            reached = sum(steps)
    assert begun, "the diaries tell of no part"
    twice = sum(begun.values()) - len(begun)
    assert twice <= in_flight, f"{twice} parts done twice, {in_flight} were in flight"
