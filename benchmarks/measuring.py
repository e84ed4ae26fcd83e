"""Shared tools of the benchmarks: cores, clocks, memory, fresh processes, and the report.

Nothing that computes is imported here: `use_cores` must come before torch, NumPy and FAISS start
their threads, so the benchmarks import what they measure inside functions.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_PACKAGES = ("torch", "numpy", "scipy", "numba", "faiss-gpu", "faiss-cpu", "open_clip_torch",
             "pillow", "pyarrow", "prefect")  # fmt: skip


def argument_parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser with the options of every benchmark; its description is the module's docstring."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--threads", type=int, default=2, help="cores to use (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the result as JSON")
    return parser


def use_cores(count: int) -> None:
    """Confine this process and those it starts to `count` cores and as many threads a library.

    A stage's reading threads, Prefect's server and a library's pool then share what they would
    share on a machine of that size.
    """
    assert "torch" not in sys.modules, "torch has started its threads already"
    for variable in _THREAD_VARIABLES:
        os.environ[variable] = str(count)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def in_fresh_process(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a module's function in a new interpreter, so that its memory is its own.

    Arguments and result are pickled; an exception is raised here.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(function, *args, **kwargs).result()


class Stopwatch:
    """Seconds spent inside its `with` blocks, added up: of the clock, and of all cores."""

    def __init__(self, wall: float = 0.0, cpu: float = 0.0) -> None:
        self.wall, self.cpu = wall, cpu

    def __enter__(self) -> Stopwatch:
        self._wall_start, self._cpu_start = time.perf_counter(), time.process_time()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.wall += time.perf_counter() - self._wall_start
        self.cpu += time.process_time() - self._cpu_start

    def seconds(self) -> dict[str, float]:
        return {"wall": round(self.wall, 3), "cpu": round(self.cpu, 3)}


def peak_memory_mb() -> float:
    """Peak memory of this process so far, in MB of 10^6 bytes (Linux: VmHWM).

    It counts pages of mapped files too, libraries and embeddings alike.
    """
    return _status_mb("VmHWM")


def memory_mb() -> float:
    """Present memory of this process, likewise (VmRSS)."""
    return _status_mb("VmRSS")


def _status_mb(name: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise OSError(f"/proc/self/status has no {name}: memory is measured on Linux only.")


@dataclass(frozen=True)
class Figure:
    """One number of a result.

    Attributes:
        name: what it is, for people and as the key in the JSON file.
        value: the number; unit: s, MB, %, ...
        limit: the most it may be at the full size; None if it may be anything.
        at_least: the least it may be at the full size; likewise.
    """

    name: str
    value: float
    unit: str
    limit: float | None = None
    at_least: float | None = None

    @property
    def bounds(self) -> dict[str, float]:
        """The limits that it has, by their words in the JSON file."""
        bounds = {"limit": self.limit, "at_least": self.at_least}
        return {word: bound for word, bound in bounds.items() if bound is not None}

    @property
    def met(self) -> bool | None:
        """Whether it keeps within its limits; None for a number without limits."""
        if not self.bounds:
            return None
        low, high = self.at_least, self.limit
        return bool((low is None or self.value >= low) and (high is None or self.value <= high))

    @property
    def verdict(self) -> str:
        """Its limits and whether it keeps within them, in words; empty if it has none."""
        words = {"limit": "at most", "at_least": "at least"}
        asked = ", ".join(f"{words[word]} {bound:g}" for word, bound in self.bounds.items())
        return f"{asked}: {'met' if self.met else 'NOT MET'}" if asked else ""


@dataclass(frozen=True, kw_only=True)
class Report:
    """A benchmark's result.

    Attributes:
        benchmark: its module's name.
        sizes: of the measured work; numbers and names.
        figures: in the order in which they are read.
        samples: single measurements behind the medians.
        load: the machine's load average (1 min) before the measurement.
    """

    benchmark: str
    sizes: dict[str, Any]
    figures: Sequence[Figure]
    samples: dict[str, Any]
    load: float

    def show(self) -> None:
        print(
            f"\n{self.benchmark}: " + ", ".join(f"{k} {_plain(v)}" for k, v in self.sizes.items())
        )
        width = max(len(figure.name) for figure in self.figures)
        for figure in self.figures:
            line = f"  {figure.name:<{width}}  {_rounded(figure.value)} {figure.unit:<9}"
            print(f"{line}   {figure.verdict}".rstrip())

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self._as_json(), indent=1, ensure_ascii=False) + "\n")

    def _as_json(self) -> dict[str, Any]:
        return {
            "benchmark": self.benchmark,
            "command": shlex.join(["python", "-m", f"benchmarks.{self.benchmark}", *sys.argv[1:]]),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine() | {"load_before": self.load},
            "sizes": self.sizes,
            "figures": {
                figure.name: {
                    "value": _for_json(figure.value),
                    "unit": figure.unit,
                    **(figure.bounds and figure.bounds | {"met": figure.met}),
                }
                for figure in self.figures
            },
            "samples": self.samples,
        }


def publish(report: Report, out: Path | None) -> None:
    """Print the report, and write it where asked."""
    report.show()
    if out is not None:
        report.write(out)
        print(f"Written to {out}.")


def load_average() -> float:
    """Processes ready to run, on average of the last minute: a busy machine distorts figures."""
    return round(os.getloadavg()[0], 2)


def machine() -> dict[str, Any]:
    """The machine and software behind the figures: processor, cores, memory, versions."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "cores_used": available,
        "memory_gb": round(memory / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {"python": platform.python_version(), **_versions()},
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _rounded(value: float) -> str:
    """Rounded to two decimals, or to three digits where that loses too much."""
    return f"{value:>12,.2f}" if value == 0 or abs(value) >= 0.01 else f"{value:>12.2e}"


def _for_json(value: float) -> float:
    return round(value, 4) if abs(value) >= 0.01 else float(f"{value:.3e}")


def _plain(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
