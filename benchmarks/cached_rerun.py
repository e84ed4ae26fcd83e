"""Cost of repeating the command of a finished build.

`zutis build` runs as a user runs it: a new process each time, its start included. The first run
builds; those after it must find everything there and publish nothing, which is checked.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks import photographs
from benchmarks.measuring import (
    Figure,
    Report,
    Stopwatch,
    argument_parser,
    load_average,
    publish,
    use_cores,
)

_MOST_SECONDS = 10.0
_SETTINGS = {
    "--clip": "ViT-B-32-quickgelu:random:0",
    "--selfmask": "random:0",
    "--mask-size": "224",
}


def measure(folder: Path, command: list[str], repeats: int) -> tuple[float, list[float]]:
    """Seconds of the cold build and of every run after it.

    Raises:
        SystemExit: a run fails, or one after the first publishes anything.
    """
    cold = _seconds_of(command, folder)
    print(f"cold: {cold:.1f} s", flush=True)
    built = _manifests(folder)
    cached = []
    for _ in range(repeats):
        cached.append(_seconds_of(command, folder))
        print(f"cached: {cached[-1]:.2f} s", flush=True)
    if _manifests(folder) != built:
        raise SystemExit("A run that should have been cached published artifacts.")
    return cold, cached


def _seconds_of(command: list[str], folder: Path) -> float:
    # Prefect's own files stay apart from the user's, whose profile might name a server.
    unset = ("PREFECT_API_URL", "PREFECT_PROFILE")
    inherited = {name: value for name, value in os.environ.items() if name not in unset}
    environment = inherited | {"PREFECT_HOME": str(folder / "prefect")}
    with Stopwatch() as watch:
        ended = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{ended.stdout}{ended.stderr}")
    return watch.wall


def _manifests(folder: Path) -> dict[str, int]:
    """Every published artifact, with the time at which it was."""
    found = (folder / "store").glob("*/*/manifest.json")
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in found}


def build_command(corpus: Path, store: Path, vocabulary: str, per_category: int) -> list[str]:
    """The command line, with the console script of this environment."""
    script = Path(sys.executable).with_name("zutis")
    given = {
        "--corpus": str(corpus),
        "--store": str(store),
        "--vocabulary": vocabulary,
        "--per-category": str(per_category),
        **_SETTINGS,
    }
    return [str(script), "build", *(word for option in given.items() for word in option)]


def main() -> None:
    parser = argument_parser(__doc__)
    photographs.add_option(parser)
    parser.add_argument("--images", type=int, default=128, help="photographs in the corpus (128)")
    parser.add_argument("--vocabulary", default="coco", help="name or path (coco)")
    parser.add_argument("--per-category", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5, help="cached runs (5)")
    options = parser.parse_args()
    use_cores(options.threads)
    load = load_average()
    sources = photographs.find(options.photographs, options.images)
    vocabulary = options.vocabulary
    if Path(vocabulary).is_file():
        vocabulary = str(Path(vocabulary).absolute())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photographs.write_copies(sources, folder / "corpus", options.images)
        command = build_command(
            folder / "corpus", folder / "store", vocabulary, options.per_category
        )
        cold, cached = measure(folder, command, options.repeats)
    report = Report(
        benchmark="cached_rerun",
        sizes={
            "images": options.images,
            "vocabulary": options.vocabulary,
            "per_category": options.per_category,
            "threads": options.threads,
            "cached_runs": options.repeats,
        },
        figures=[
            Figure("cold build", cold, "s"),
            Figure("cached re-run, median", median(cached), "s", _MOST_SECONDS),
            Figure("cached re-run, slowest", max(cached), "s"),
        ],
        samples={"cached_seconds": [round(seconds, 3) for seconds in cached]},
        load=load,
    )
    publish(report, options.out)


if __name__ == "__main__":
    main()
