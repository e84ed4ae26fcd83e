"""Overhead of the embedding stage: its time beyond decoding and the model's forward pass.

One part of a scan's plan goes through the real stage: read, hash, decode, preprocess, embed,
publish. Before and after it, on the same cores and the same photographs, decoding alone,
preprocessing alone and the forward pass alone are measured. Overhead is the stage's remaining time
after decoding and forward pass; preprocessing counts as overhead.

The stage decodes while the model computes, so clock time alone could be too favourable: the
share is also given in processor time, where nothing overlaps.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from tasks.indexing.embed_images import Config

_MOST_OVERHEAD = 10.0  # per cent of the stage's clock time


@dataclass(frozen=True)
class Sample:
    """Seconds of one run of the stage, and of its pieces alone (mean of before and after)."""

    stage: Stopwatch
    decode: Stopwatch
    preprocess: Stopwatch
    forward: Stopwatch

    def share_left(self, clock: str, *pieces: str) -> float:
        """Per cent of the stage's seconds (`wall` or `cpu`) that these pieces don't explain."""
        explained = sum(getattr(getattr(self, piece), clock) for piece in pieces)
        return 100.0 * (1.0 - explained / getattr(self.stage, clock))

    def seconds(self) -> dict[str, dict[str, float]]:
        return {name: watch.seconds() for name, watch in vars(self).items()}


def measure(
    corpus: Sequence[Path], distinct: int, config: Config, *, threads: int, repeats: int
) -> list[Sample]:
    """Run the stage `repeats` times, its pieces alone before, between and after.

    Args:
        corpus: image files of one folder; `corpus[i]` shows what `corpus[i % distinct]` shows.
        config: the stage's settings; the model is loaded before the clock runs.
        threads: threads that decode and preprocess where these are measured alone.
    """
    pieces = _Pieces(corpus, distinct, config, threads)
    pieces.measure()  # a warm-up: memory, thread pools, kernels chosen at first use
    around = [pieces.measure()]
    stages = []
    for _ in range(repeats):
        stages.append(_measure_stage(corpus[0].parent, len(corpus), config))
        around.append(pieces.measure())
    return [
        Sample(stage, *map(_mean, before, after))
        for stage, before, after in zip(stages, around, around[1:], strict=False)
    ]


class _Pieces:
    """Decoding, preprocessing and the forward pass of a corpus, each by itself."""

    def __init__(self, corpus: Sequence[Path], distinct: int, config: Config, threads: int) -> None:
        from storage.images.decoding import decode
        from tasks.indexing import embed_images

        self._decode, self._threads, self._batch = decode, threads, config.batch_size
        self._clip = embed_images.load_clip_model(config.clip)
        self._files = [path.read_bytes() for path in corpus]
        self._decoded = [decode(data).image for data in self._files[:distinct]]
        self._pixels = [self._clip.preprocess(image) for image in self._decoded]

    def measure(self) -> tuple[Stopwatch, Stopwatch, Stopwatch]:
        """Decoding, preprocessing, forward pass, once each over the whole corpus."""
        images = (self._decoded[n % len(self._decoded)] for n in range(len(self._files)))
        decoding = self._all_threads(self._decode, self._files)
        return decoding, self._all_threads(self._clip.preprocess, images), self._forward()

    def _all_threads(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Stopwatch:
        def without_result(item: Any) -> None:  # a thousand decoded images fill the memory
            function(item)

        with ThreadPoolExecutor(self._threads) as pool, Stopwatch() as watch:
            for _ in pool.map(without_result, items):
                pass
        return watch

    def _forward(self) -> Stopwatch:
        import torch

        watch, total = Stopwatch(), len(self._files)
        for start in range(0, total, self._batch):
            numbers = range(start, min(start + self._batch, total))
            pixels = torch.stack([self._pixels[n % len(self._pixels)] for n in numbers])
            with watch:
                self._clip.embed_images(pixels)
        return watch


def _measure_stage(folder: Path, images: int, config: Config) -> Stopwatch:
    """The stage on all images as one part, into a store of its own; planning is not counted."""
    from storage.artifacts.store import ArtifactStore
    from tasks.indexing import embed_images, scan
    from tasks.stage.contract import PartOfPlan, SilentProgress, plan_parts

    progress = SilentProgress()
    with tempfile.TemporaryDirectory() as root:
        store = ArtifactStore(root)
        settings = scan.Config(source=str(folder), part_images=images)
        plan = scan.run(settings, scan.Inputs(), store, progress)
        assert len(plan_parts(plan)) == 1, "the corpus was to be one part"
        with Stopwatch() as watch:
            made = embed_images.run(config, PartOfPlan(plan.ref, 0), store, progress)
        counts = made.counts
        assert (counts["images"], counts["duplicates"]) == (images, 0), counts
    return watch


def _mean(before: Stopwatch, after: Stopwatch) -> Stopwatch:
    return Stopwatch(wall=mean((before.wall, after.wall)), cpu=mean((before.cpu, after.cpu)))


def figures(samples: Sequence[Sample], images: int) -> list[Figure]:
    """Medians over the runs of the stage."""

    def seconds(piece: str, clock: str) -> float:
        return median(getattr(getattr(sample, piece), clock) for sample in samples)

    def share(clock: str, *pieces: str) -> float:
        return median(sample.share_left(clock, *pieces) for sample in samples)

    found = []
    for clock, name in (("wall", "clock"), ("cpu", "processor")):
        for piece in ("stage", "decode", "preprocess", "forward"):
            found.append(Figure(f"{piece}, {name}", seconds(piece, clock), "s"))
    limit = _MOST_OVERHEAD
    unexplained = share("wall", "decode", "preprocess", "forward")
    return [
        *found,
        Figure("images embedded per second", images / seconds("stage", "wall"), "images/s"),
        Figure("overhead, clock", share("wall", "decode", "forward"), "%", limit),
        Figure("overhead less preprocessing, clock", unexplained, "%"),
        Figure("overhead, processor", share("cpu", "decode", "forward"), "%"),
    ]


def main() -> None:
    parser = argument_parser(__doc__)
    photographs.add_option(parser)
    parser.add_argument("--most", type=int, help="use only the first so many photographs")
    parser.add_argument("--images", type=int, default=1024, help="images of the part (1024)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of the stage (3)")
    parser.add_argument("--clip", default="ViT-B-32-quickgelu:random:0", help="the model")
    options = parser.parse_args()
    use_cores(options.threads)
    load = load_average()

    from flows.settings.build import clip_model
    from tasks.indexing.embed_images import Config

    config = Config(clip=clip_model(options.clip, "cpu", "float32"))
    sources = photographs.find(options.photographs, options.most)
    with tempfile.TemporaryDirectory() as folder:
        corpus = photographs.write_copies(sources, Path(folder, "corpus"), options.images)
        samples = measure(
            corpus, len(sources), config, threads=options.threads, repeats=options.repeats
        )
    report = Report(
        benchmark="embedding_overhead",
        sizes={
            "images": len(corpus),
            "photographs": len(sources),
            "clip": options.clip,
            "batch": config.batch_size,
            "threads": options.threads,
            "runs": options.repeats,
        },
        figures=figures(samples, len(corpus)),
        samples={"runs": [sample.seconds() for sample in samples]},
        load=load,
    )
    publish(report, options.out)


if __name__ == "__main__":
    main()
