"""What the quality of labels costs an image, beside making its mask.

Builds with `--quality` on photographs, on a CPU, with networks of the published sizes and random
weights: SelfMask at 512 pixels, ViT-B/16 as the CLIP that looks at regions. A first build of two
photographs loads and compiles what a process does once; then each build has photographs of its own.

An image's cost is that of `embed_regions`, which looks at its mask. `damage_labels` and
`score_labels` are for the whole corpus: the first makes examples of 400 images at most, whatever
the corpus has, and does so from 60 labels on; its time is not measured here, since with random
weights no label is believed.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

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
    from flows.execution.progress import StageProgress

MOST_SHARE: Final = 15.0  # per cent of the mask stage's time
MASKS, REGIONS = "make_masks", "embed_regions"

_CLIP: Final = "ViT-B-16-quickgelu:random:0"
_SELFMASK: Final = "random:0"


class StageClock:
    """Watches an executor: clock and processor time of each stage, added up."""

    def __init__(self) -> None:
        self.watches: dict[str, Stopwatch] = {}

    def begin(self, progress: StageProgress) -> None:
        self.watches.setdefault(progress.stage, Stopwatch()).__enter__()

    def refresh(self, progress: StageProgress) -> None:
        """Nothing is shown in between."""

    def end(self, progress: StageProgress) -> None:
        self.watches[progress.stage].__exit__(None, None, None)


def time_build(files: Sequence[Path], folder: Path) -> dict[str, dict[str, float]]:
    """Seconds of each stage of a build on copies of `files`, all of which are retrieved."""
    from flows.execution.executors import LocalExecutor
    from flows.pipelines.build import build
    from flows.settings.build import BuildSettings
    from storage.artifacts.store import ArtifactStore

    corpus = folder / "corpus"
    corpus.mkdir(parents=True)
    for file in files:
        shutil.copy(file, corpus)
    vocabulary = folder / "vocabulary.txt"
    vocabulary.write_text("person\n", encoding="utf-8")
    settings = BuildSettings(
        corpus=(str(corpus),),
        vocabulary=str(vocabulary),
        per_category=len(files),
        clip=_CLIP,
        selfmask=_SELFMASK,
        quality=True,
        device="cpu",
        store=str(folder / "store"),
    )
    clock = StageClock()
    build(settings, LocalExecutor(ArtifactStore(settings.store), clock))
    return {stage: watch.seconds() for stage, watch in clock.watches.items()}


def measure(folder: Path | None, images: int, rounds: int) -> Report:
    """The share of `embed_regions` in `rounds` builds of `images` photographs each."""
    load = load_average()
    chosen = photographs.find(folder, most=images * rounds + 2)
    with tempfile.TemporaryDirectory() as name:
        time_build(chosen[:2], Path(name, "first"))
        samples = []
        for number in range(rounds):
            files = chosen[2 + number * images : 2 + (number + 1) * images]
            samples.append(time_build(files, Path(name, f"round-{number}")))
            print(f"round {number}: {len(files)} photographs, {samples[-1]}", flush=True)
    clock = [100 * one[REGIONS]["wall"] / one[MASKS]["wall"] for one in samples]
    processor = [100 * one[REGIONS]["cpu"] / one[MASKS]["cpu"] for one in samples]
    return Report(
        benchmark="quality_cost",
        sizes={"photographs": images, "rounds": rounds, "clip": _CLIP, "mask_size": 512},
        figures=[
            Figure("embed_regions / make_masks, clock", median(clock), "%", limit=MOST_SHARE),
            Figure("embed_regions / make_masks, processor time", median(processor), "%"),
            Figure("make_masks, an image", _an_image(samples, MASKS, images), "s"),
            Figure("embed_regions, an image", _an_image(samples, REGIONS, images), "s"),
        ],
        samples={f"round {number}": one for number, one in enumerate(samples)},
        load=load,
    )


def _an_image(samples: Sequence[dict[str, dict[str, float]]], stage: str, images: int) -> float:
    return median(one[stage]["wall"] for one in samples) / images


def _parser() -> argparse.ArgumentParser:
    parser = argument_parser(__doc__)
    photographs.add_option(parser)
    parser.add_argument("--images", type=int, default=8, help="a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    return parser


def main() -> None:
    options = _parser().parse_args()
    use_cores(options.threads)
    publish(measure(options.photographs, options.images, options.rounds), options.out)


if __name__ == "__main__":
    main()
