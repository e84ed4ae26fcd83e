"""Orchestration overhead: the share of a cold build's time in which no stage works.

The flow runs in a process of its own, on real photographs with real (untrained) networks, cut so
that parts take a minute or more. A clock around every stage's `run` records when stages work; all
else between the start of the process and its end is orchestration: imports, the search for cached
parts (with its own look at the corpus), Prefect's temporary server, task runs, progress, and what
is published to the UI. Prefect's start-up, its import and its server's start, is also given by
itself: it does not grow with the build.

Prefect's server is another process and takes some of the cores from the stages, which this share
does not show. `--compare` runs the same build without Prefect as well, and compares clock times.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import photographs
from benchmarks.measuring import (
    Figure,
    Report,
    argument_parser,
    in_fresh_process,
    load_average,
    publish,
    use_cores,
)

_MOST_SHARE = 5.0  # per cent of the cold build's clock time
_LONG_PART_SECONDS = 60.0
_LONG_STAGES = ("embed_images", "make_masks")  # those whose parts a user sizes


@dataclass
class Timeline:
    """Times of events, in seconds of the system's clock, which processes share.

    Attributes:
        marks: moments by name.
        stages: (name, begin, end) of every run of a stage.
    """

    marks: dict[str, float] = field(default_factory=dict)
    stages: list[tuple[str, float, float]] = field(default_factory=list)

    def mark(self, name: str) -> None:
        self.marks[name] = time.time()

    def between(self, begin: str, end: str) -> float:
        return self.marks[end] - self.marks[begin]

    @property
    def working(self) -> float:
        """Seconds in which at least one stage ran."""
        total, until = 0.0, 0.0
        for _, begin, end in sorted(self.stages, key=lambda stage: stage[1]):
            total += max(0.0, end - max(begin, until))
            until = max(until, end)
        return total

    def seconds_of(self, *names: str) -> list[float]:
        return [end - begin for name, begin, end in self.stages if name in names]


def build_with_prefect(settings: dict[str, Any], prefect_home: Path) -> Timeline:
    """`zutis build` as the command runs it, with a clock around each of its steps."""
    timeline = Timeline()
    timeline.mark("python started")
    os.environ["PREFECT_HOME"] = str(prefect_home)
    os.environ.pop("PREFECT_API_URL", None)
    from flows.commands import build as build_command
    from flows.prefect_server import settings as prefect_settings
    from flows.settings.build import BuildSettings

    chosen = BuildSettings(**settings)
    if build_command.find_outcome(chosen) is not None:
        raise SystemExit("The build was to be a cold one, and everything was there already.")
    prefect_settings.prepare_prefect()
    timeline.mark("found not cached")
    import flows.build_pseudolabels as flow
    import flows.execution.stage_task as stage_task
    from flows.execution.progress import SilentWatcher

    timeline.mark("prefect imported")
    stage_task.run_stage = _timed(stage_task.run_stage, timeline)
    flow.build = _marked(flow.build, timeline)
    flow.run_build(chosen, SilentWatcher())
    timeline.mark("flow ended")
    return timeline


def build_without_prefect(settings: dict[str, Any]) -> Timeline:
    """The same build, stage by stage in this thread."""
    timeline = Timeline()
    timeline.mark("python started")
    import flows.execution.executors as executors
    from flows.pipelines.build import build
    from flows.settings.build import BuildSettings
    from storage.artifacts.store import ArtifactStore

    executors.run_stage = _timed(executors.run_stage, timeline)
    chosen = BuildSettings(**settings)
    build(chosen, executors.LocalExecutor(ArtifactStore(chosen.store)))
    return timeline


def _timed(run_stage: Callable[..., Any], timeline: Timeline) -> Callable[..., Any]:
    """`run_stage`, noting when each stage worked."""
    lock = threading.Lock()

    def run(stage: str, *args: Any, **kwargs: Any) -> Any:
        begin = time.time()
        try:
            return run_stage(stage, *args, **kwargs)
        finally:
            with lock:
                timeline.stages.append((stage, begin, time.time()))

    return run


def _marked(build: Callable[..., Any], timeline: Timeline) -> Callable[..., Any]:
    """The flow's `build`, noting when it begins (the server is up by then) and ends."""

    def run(*args: Any, **kwargs: Any) -> Any:
        timeline.mark("build began")
        built = build(*args, **kwargs)
        timeline.mark("build ended")
        return built

    return run


def measure(function: Callable[..., Timeline], *args: Any) -> Timeline:
    """The timeline of a process that runs one build, from before it starts until it has ended."""
    started = time.time()
    timeline = in_fresh_process(function, *args)
    timeline.marks["process started"] = started
    timeline.mark("process ended")
    return timeline


def figures(timeline: Timeline, without: Timeline | None) -> list[Figure]:
    total = timeline.between("process started", "process ended")
    in_build = timeline.between("build began", "build ended") - timeline.working
    idle = total - timeline.working
    start_up = timeline.between("found not cached", "build began")
    long = timeline.seconds_of(*_LONG_STAGES)
    steps = {
        "start of Python": ("process started", "python started"),
        "search for cached parts": ("python started", "found not cached"),
        "import of Prefect": ("found not cached", "prefect imported"),
        "start of Prefect's server and of the flow": ("prefect imported", "build began"),
        "end of the flow (results for the UI)": ("build ended", "flow ended"),
        "end of the process (server stops)": ("flow ended", "process ended"),
    }
    found = [
        Figure("cold build, clock", total, "s"),
        Figure("stages at work", timeline.working, "s"),
        *(Figure(name, timeline.between(*marks), "s") for name, marks in steps.items()),
        Figure("between the stages", in_build, "s"),
        Figure("orchestration, all of it", 100.0 * idle / total, "%", _MOST_SHARE),
        Figure("of it Prefect's start-up", 100.0 * start_up / total, "%"),
        Figure("of it all else", 100.0 * (idle - start_up) / total, "%"),
        Figure("embedding and mask parts", len(long), "parts"),
        Figure("embedding and mask parts, shortest", min(long), "s"),
        Figure("embedding and mask parts, median", median(long), "s"),
    ]
    if without is not None:
        bare = without.between("process started", "process ended")
        found.append(Figure("the same build without Prefect", bare, "s"))
        found.append(Figure("more than without Prefect", 100.0 * (total - bare) / bare, "%"))
    return found


def _warn_of_short_parts(long: Sequence[float]) -> None:
    short = sum(seconds < _LONG_PART_SECONDS for seconds in long)
    if short:
        print(
            f"{short} of {len(long)} embedding and mask parts took less than "
            f"{_LONG_PART_SECONDS:.0f} s: the limit is meant for longer ones (--part-images, "
            "--mask-part-images)."
        )


def main() -> None:
    parser = argument_parser(__doc__)
    photographs.add_option(parser)
    parser.add_argument("--images", type=int, default=3072, help="images in the corpus (3072)")
    parser.add_argument("--part-images", type=int, default=1536, help="an embedding part (1536)")
    parser.add_argument("--mask-part-images", type=int, default=256, help="a mask part (256)")
    parser.add_argument("--vocabulary", default="coco", help="name or path (coco)")
    parser.add_argument("--per-category", type=int, default=20)
    parser.add_argument("--compare", action="store_true", help="also build without Prefect")
    options = parser.parse_args()
    use_cores(options.threads)
    load = load_average()

    settings = {
        "vocabulary": options.vocabulary,
        "per_category": options.per_category,
        "clip": "ViT-B-32-quickgelu:random:0",
        "selfmask": "random:0",
        "mask_size": 224,
        "part_images": options.part_images,
        "mask_part_images": options.mask_part_images,
        "device": "cpu",
    }
    sources = photographs.find(options.photographs, options.images)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photographs.write_copies(sources, folder / "corpus", options.images)
        corpus = {"corpus": (str(folder / "corpus"),)}
        with_prefect = settings | corpus | {"store": str(folder / "store")}
        timeline = measure(build_with_prefect, with_prefect, folder / "prefect")
        without = None
        if options.compare:
            bare = settings | corpus | {"store": str(folder / "store-without")}
            without = measure(build_without_prefect, bare)
    _warn_of_short_parts(timeline.seconds_of(*_LONG_STAGES))
    begin = timeline.marks["process started"]
    report = Report(
        benchmark="orchestration",
        sizes={"images": options.images, "threads": options.threads, **settings},
        figures=figures(timeline, without),
        samples={
            "marks": {name: round(at - begin, 3) for name, at in timeline.marks.items()},
            "stages": [
                {"stage": stage, "begin": round(start - begin, 3), "end": round(end - begin, 3)}
                for stage, start, end in timeline.stages
            ],
        },
        load=load,
    )
    publish(report, options.out)


if __name__ == "__main__":
    main()
