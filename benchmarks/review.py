"""Time of the review page's first paint over 50,000 labels.

The build is that of `benchmarks.report`, of made records. The page is served as by `zutis review`,
and is asked for what a browser asks for until a first screen is painted: the page with its script
and style, the build, the list of all labels, the first two hundred of them, and the thumbnails of a
screen, six at a time. Client and server share a process. Layout and painting by a browser come on
top.
"""

from __future__ import annotations

import json
import tempfile
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.measuring import (
    Figure,
    Report,
    Stopwatch,
    argument_parser,
    in_fresh_process,
    load_average,
    peak_memory_mb,
    publish,
    use_cores,
)
from benchmarks.report import make_build

_MOST_SECONDS = 2.0
_SCREEN = 63
"""Thumbnails that a window of 1,400 by 900 pixels draws: seven columns, with rows drawn ahead."""
_CONNECTIONS = 6


def measure(labels: int, categories: int, threads: int) -> Report:
    """Make the build, and serve and ask for its page in another process."""
    load = load_average()
    with tempfile.TemporaryDirectory() as folder:
        in_fresh_process(make_build, folder, labels, categories)
        first, again, scrolled, opened, megabytes = in_fresh_process(paint, folder, threads)
    return Report(
        benchmark="review",
        sizes={"labels": labels, "categories": categories, "threads": threads},
        figures=[
            Figure("first paint", first, "s", limit=_MOST_SECONDS),
            Figure("the same again, thumbnails from the disk", again, "s"),
            Figure("200 labels further down", scrolled, "s"),
            Figure("from the command's imports to the page's address", opened, "s"),
            Figure("peak memory", megabytes, "MB"),
        ],
        samples={},
        load=load,
    )


def paint(folder: str, threads: int) -> tuple[float, float, float, float, float]:
    """Seconds of the first paint, of the same again, of a page further down and until the server
    answers; and peak memory in MB."""
    use_cores(threads)
    opening = Stopwatch()
    with opening:
        from flows.builds.found import find_build
        from flows.deciding.answers import PAGE_LABELS, Answers
        from flows.deciding.decision_log import DecisionLog
        from flows.deciding.drawing import Drawings
        from flows.deciding.image_search import ImageSearch
        from flows.deciding.reviewed import labels_to_review
        from flows.deciding.reviewing import Reviewing
        from flows.deciding.server import ReviewServer
        from storage.artifacts.store import ArtifactStore
        from storage.files.bounded_cache import BoundedCache

        build = find_build(ArtifactStore(folder))
        reviewed = labels_to_review(build)
        reviewing = Reviewing(reviewed, DecisionLog(Path(folder) / "decisions.jsonl"))
        cache = BoundedCache(Path(folder) / "thumbnails", 1_000_000_000)
        search = ImageSearch(build, reviewed.labels.samples)
        server = ReviewServer(Answers(reviewing, Drawings(reviewed, cache), search), 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        first, again, scrolled = Stopwatch(), Stopwatch(), Stopwatch()
        for watch in (first, again):
            with watch:
                ids = _begin(server.address)
                _show(server.address, ids[:PAGE_LABELS], ids[:_SCREEN])
        middle = len(ids) // 2
        with scrolled:
            further = ids[middle : middle + PAGE_LABELS]
            _show(server.address, further, further)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    walls = (watch.seconds()["wall"] for watch in (first, again, scrolled, opening))
    return *walls, peak_memory_mb()  # type: ignore[return-value]


def _get(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=60) as answer:
        content: bytes = answer.read()
    return content


def _begin(address: str) -> list[int]:
    """The page, and the labels in the order in which it shows them."""
    for name in ("", "review.css", "review.js", "build"):
        _get(address + name)
    found: list[int] = json.loads(_get(f"{address}list?category=0&order=best&show="))["labels"]
    return found


def _show(address: str, described: list[int], drawn: list[int]) -> None:
    _get(f"{address}labels?ids={','.join(map(str, described))}")
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        list(pool.map(lambda label: _get(f"{address}thumbnail?id={label}"), drawn))


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--labels", type=int, default=50_000, help="default: %(default)s")
    parser.add_argument("--categories", type=int, default=1_000, help="default: %(default)s")
    arguments = parser.parse_args()
    report = measure(arguments.labels, arguments.categories, arguments.threads)
    publish(report, arguments.out)


if __name__ == "__main__":
    main()
