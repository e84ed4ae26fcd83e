"""Near-duplicates: how many are found, how many of what is found are none, and the search's time.

Photographs and images of the made world are copied in six ways (crops to 80 %, JPEG of quality 30,
30 % brighter and darker, mirrored, a quarter of each side). Originals and copies, and a hard made
corpus with the near-duplicates that are in it, go through the real stages: scan, embedding by the
small CLIP that the package brings, index, `find_duplicates` at its defaults. Recall is over pairs
of an original and its copy, precision over all pairs that are in one group.

The search is timed on random unit rows, of which some are near-copies of others, against one exact
search with as many queries at once. The two take turns, each in a process of its own, and medians
are compared. Larger sizes show how time and memory grow.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks import photographs
from benchmarks.measuring import (
    Figure,
    Report,
    Stopwatch,
    argument_parser,
    in_fresh_process,
    load_average,
    memory_mb,
    peak_memory_mb,
    publish,
    use_cores,
)

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from storage.artifacts.store import Artifact, ArtifactStore

_CLIP = "made-ViT-8:demo"
_LEAST_RECALL, _LEAST_PRECISION = 95.0, 99.0
_MOST_TIMES_SEARCH = 2.0
_NEAR_COPIES = 0.05  # share of the made rows
_MILLION = 1_000_000


def photographs_of(folder: Path | None, most: int) -> list[Image.Image]:
    """RGB photographs."""
    from PIL import Image

    return [Image.open(path).convert("RGB") for path in photographs.find(folder, most)]


def made_images(count: int, seed: int) -> list[Image.Image]:
    """Images of a made corpus, as they are before any is copied."""
    from PIL import Image

    from made_world.scenes.images import corpus_image

    return [Image.fromarray(corpus_image(seed, number).pixels) for number in range(count)]


Truth = dict[str, tuple[str, str]]
"""The original of each copy and the way in which it was changed, by file names."""


def write_with_copies(images: list[Image.Image], folder: Path, seed: int) -> Truth:
    """Write each image and its copies."""
    import numpy as np

    from benchmarks.near_copies import CHANGES

    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    truth: Truth = {}
    for number, image in enumerate(images):
        original = f"{number:05d}.png"
        image.save(folder / original, compress_level=1)
        for change, make in CHANGES.items():
            copy = f"{number:05d}-{change}.jpg"
            (folder / copy).write_bytes(make(image, rng))
            truth[copy] = original, change
    return truth


def write_hard_corpus(folder: Path, count: int, seed: int) -> Truth:
    """Write a hard made corpus."""
    from made_world.corpus import read_corpus_ground_truth, write_corpus

    write_corpus(folder, seed, count, world="hard")
    truth = read_corpus_ground_truth(folder)
    return {name: (of, truth.ways[name]) for name, of in truth.near_duplicates.items()}


def find_groups(folder: Path, store_folder: Path) -> dict[str, Any]:
    """Run the stages on a folder: the group of each file that has one, by its name, the counts of
    `find_duplicates` and its seconds."""
    from storage.artifacts.store import ArtifactStore
    from tasks.duplicates import find_duplicates
    from tasks.stage.contract import SilentProgress

    store = ArtifactStore(str(store_folder))
    index = _index(folder, store)
    with Stopwatch() as watch:
        found = find_duplicates.run(
            find_duplicates.Config(), find_duplicates.Inputs(index.ref), store, SilentProgress()
        )
    return {
        "groups": _groups_by_name(index, found, store),
        "counts": found.counts,
        "seconds": watch.seconds(),
    }


def _index(folder: Path, store: ArtifactStore) -> Artifact:
    from flows.settings.build import clip_model
    from tasks.indexing import build_index, embed_images, scan
    from tasks.stage.contract import PartOfPlan, SilentProgress, plan_parts

    silent = SilentProgress()
    plan = scan.run(scan.Config(source=str(folder)), scan.Inputs(), store, silent)
    config = embed_images.Config(clip=clip_model(_CLIP, "cpu", "float32"))
    parts = []
    for number in range(len(plan_parts(plan))):
        embedded = embed_images.run(config, PartOfPlan(plan.ref, number), store, silent)
        parts.append(build_index.EmbeddedPart(plan.ref, number, embedded.ref))
    inputs = build_index.Inputs(tuple(parts))
    return build_index.run(build_index.Config(), inputs, store, silent)


def _groups_by_name(index: Artifact, found: Artifact, store: ArtifactStore) -> dict[str, str]:
    import numpy as np

    from storage.images.records import read_parquet
    from tasks.indexing.index_rows import load_index_rows, records_at
    from tasks.stage.layout import DUPLICATES

    rows, _ = load_index_rows(index, store)
    records = records_at(index, np.arange(rows.images), ["image_id", "uri"], store).to_pylist()
    names = {record["image_id"]: Path(record["uri"]).name for record in records}
    with found.open(DUPLICATES) as file:
        return {names[row["image_id"]]: row["group"] for row in read_parquet(file).to_pylist()}


def score(groups: dict[str, str], truth: Truth) -> dict[str, float]:
    """Recall of each way and of all, and the precision of pairs, in percent.

    Args:
        groups: of each file that is in one.
    """
    copies = Counter(way for _, way in truth.values())
    found = Counter(
        way
        for name, (original, way) in truth.items()
        if name in groups and groups[name] == groups.get(original)
    )
    members: defaultdict[str, list[str]] = defaultdict(list)
    for name, group in groups.items():
        members[group].append(truth[name][0] if name in truth else name)
    pairs = [pair for originals in members.values() for pair in combinations(originals, 2)]
    right = sum(first == second for first, second in pairs)
    return {
        "recall": 100 * found.total() / copies.total(),
        "precision": 100 * right / len(pairs) if pairs else 100.0,
        **{way: 100 * found[way] / count for way, count in sorted(copies.items())},
    }


def quality_figures(what: str, scores: dict[str, float]) -> list[Figure]:
    ways = {name: value for name, value in scores.items() if name not in ("recall", "precision")}
    return [
        Figure(f"{what}: recall", scores["recall"], "%", at_least=_LEAST_RECALL),
        Figure(f"{what}: precision", scores["precision"], "%", at_least=_LEAST_PRECISION),
        *(Figure(f"{what}: recall, {name}", value, "%") for name, value in ways.items()),
    ]


def make_rows(path: Path, rows: int, dimensions: int, seed: int) -> None:
    """Write float16 unit rows, of which some are near-copies of earlier ones."""
    import numpy as np

    from storage.embeddings.parts import write_embeddings

    generator = np.random.default_rng(seed)
    made = generator.standard_normal((rows, dimensions), dtype=np.float32)
    copies = generator.permutation(rows)[: int(rows * _NEAR_COPIES)]
    noise = generator.standard_normal((len(copies), dimensions), dtype=np.float32)
    made[copies] = made[generator.integers(0, rows, len(copies))] + 0.3 * noise
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    with path.open("wb") as file:
        write_embeddings(made.astype(np.float16), file)


def time_pairs(path: Path) -> dict[str, Any]:
    """Seconds of finding the candidate pairs among all rows, and the memory that it took."""
    from tasks.duplicates.candidates import exact_nearest, pairs_within
    from tasks.duplicates.settings import MatchingConfig

    rows, config = _rows(path), MatchingConfig()
    _warm_up(rows, config.neighbours)
    before = memory_mb()
    with Stopwatch() as watch:
        nearest = exact_nearest(rows, config.neighbours + 1)
        pairs = pairs_within(rows, nearest, config.least_similarity, lambda _: None)
    return {"seconds": watch.wall, "cpu": watch.cpu, "pairs": len(pairs),
            "grown_mb": peak_memory_mb() - before}  # fmt: skip


def time_search(path: Path) -> dict[str, Any]:
    """Seconds of one exact search with all rows as queries, and the memory that it took."""
    import numpy as np

    from storage.embeddings.exact_search import exact_search
    from tasks.duplicates.settings import MatchingConfig

    rows, k = _rows(path), MatchingConfig().neighbours + 1
    _warm_up(rows, k)
    before = memory_mb()
    queries = rows.fetch(np.arange(len(rows))).astype(np.float32)
    with Stopwatch() as watch:
        exact_search(rows.blocks(), queries, k, fetch=rows.fetch)
    return {"seconds": watch.wall, "cpu": watch.cpu, "grown_mb": peak_memory_mb() - before}


def _rows(path: Path) -> Any:
    import numpy as np

    from tasks.duplicates.local_rows import LocalRows

    return LocalRows(path, np.arange(len(np.load(path, mmap_mode="r"))))


def _warm_up(rows: Any, k: int) -> None:
    """A search of few queries, which starts the libraries' threads."""
    from storage.embeddings.exact_search import exact_search

    queries: np.ndarray = next(rows.blocks()).rows[:8].astype("float32")
    exact_search(rows.blocks(), queries, k, fetch=rows.fetch)


def measure_search(
    folder: Path, rows: int, largest: int, dimensions: int, rounds: int, seed: int
) -> tuple[list[Figure], dict[str, Any]]:
    """Figures of the search at `rows`, and of its growth up to `largest`; the measurements."""
    path, large = folder / "rows.npy", folder / "large.npy"
    in_fresh_process(make_rows, path, rows, dimensions, seed)
    in_fresh_process(make_rows, large, largest, dimensions, seed)
    ours, theirs = [], []
    for number in range(rounds):
        theirs.append(in_fresh_process(time_search, path))
        ours.append(in_fresh_process(time_pairs, path))
        print(f"round {number + 1}: search {theirs[-1]}, pairs {ours[-1]}", flush=True)
    grown = in_fresh_process(time_pairs, large)
    print(f"{largest:,} rows: {grown}", flush=True)
    seconds = {name: median(one["seconds"] for one in some)
               for name, some in (("ours", ours), ("theirs", theirs))}  # fmt: skip
    cpu = median(one["cpu"] for one in ours) / median(one["cpu"] for one in theirs)
    exponent = math.log(grown["cpu"] / median(one["cpu"] for one in ours), largest / rows)
    figures = [
        Figure("pairs of all rows", seconds["ours"], "s"),
        Figure("one search of as many queries", seconds["theirs"], "s"),
        Figure("pairs / search", seconds["ours"] / seconds["theirs"], "times", _MOST_TIMES_SEARCH),
        Figure("pairs / search, processor time", cpu, "times"),
        Figure("memory, pairs", max(one["grown_mb"] for one in ours), "MB"),
        Figure("memory, search", max(one["grown_mb"] for one in theirs), "MB"),
        Figure(f"pairs of {largest:,} rows", grown["seconds"], "s"),
        Figure(f"memory, pairs of {largest:,} rows", grown["grown_mb"], "MB"),
        Figure("exponent of the time in the rows", exponent, ""),
        Figure(
            "pairs of 1,000,000 rows, extrapolated",
            grown["seconds"] * (_MILLION / largest) ** 2 / 3600,
            "h",
        ),
    ]
    return figures, {"ours": ours, "theirs": theirs, "largest": grown}


def _corpora(options: argparse.Namespace) -> dict[str, Callable[[Path], Truth]]:
    """What writes each of the corpora."""
    seed = options.seed
    return {
        "photographs": lambda folder: write_with_copies(
            photographs_of(options.photographs, options.most), folder, seed
        ),
        "made world": lambda folder: write_with_copies(
            made_images(options.made, seed), folder, seed
        ),
        "hard world": lambda folder: write_hard_corpus(folder, options.hard, seed),
    }


def main() -> None:
    parser = argument_parser(__doc__)
    photographs.add_option(parser)
    parser.add_argument("--most", type=int, default=128, help="photographs (128)")
    parser.add_argument("--made", type=int, default=200, help="images of the made world (200)")
    parser.add_argument("--hard", type=int, default=1_000, help="files of the hard world (1,000)")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--largest", type=int, default=40_000, help="rows, for the growth (40,000)")
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each search (3)")
    parser.add_argument("--seed", type=int, default=401)
    parser.add_argument("--folder", type=Path, help="where to put 0.5 GB for the time being")
    options = parser.parse_args()
    use_cores(options.threads)
    load = load_average()

    figures: list[Figure] = []
    samples: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        counts = {}
        for what, write in _corpora(options).items():
            truth = write(folder / what / "corpus")
            found = in_fresh_process(find_groups, folder / what / "corpus", folder / what / "store")
            figures += quality_figures(what, score(found["groups"], truth))
            counts[what] = found["counts"]["images"]
            seconds = found["seconds"]["wall"] / counts[what] * 1000
            figures.append(Figure(f"{what}: find_duplicates, an image", seconds, "ms"))
            cpu = found["seconds"]["cpu"] / counts[what] * 1000
            figures.append(Figure(f"{what}: find_duplicates, processor time an image", cpu, "ms"))
            samples[what] = found["counts"] | {"seconds": found["seconds"]}
            print(f"{what}: {found['counts']}, {found['seconds']}", flush=True)
        measured, samples["search"] = measure_search(
            folder, options.rows, options.largest, options.dimensions, options.rounds, options.seed
        )
    publish(
        Report(
            benchmark="duplicates",
            sizes={
                **counts, "rows": options.rows, "largest": options.largest,
                "dimensions": options.dimensions, "threads": options.threads, "seed": options.seed,
            },
            figures=[*figures, *measured],
            samples=samples,
            load=load,
        ),
        options.out,
    )  # fmt: skip


if __name__ == "__main__":
    main()
