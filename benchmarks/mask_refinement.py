"""Our mask refinement against the reference's bilateral solver, on one thread in the same run.

Photographs at the size at which masks are made, each with a noisy mask: an ellipse with 8 % of all
pixels flipped. The reference's operations (`benchmarks.reference.bilateral_solver`) and ours take
turns on each photograph; medians are compared, and masks pixel by pixel. Times are processor times:
with one thread they equal clock times on an idle machine. Our first call, which loads or compiles
code, is not counted but shown separately, in fresh processes.

With `--batched`, the solver in PyTorch is measured too, on a GPU if there is one.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np

from benchmarks import photographs
from benchmarks.measuring import (
    Figure,
    Report,
    Stopwatch,
    argument_parser,
    in_fresh_process,
    load_average,
    publish,
    use_cores,
)

_LEAST_TIMES_FASTER = 7.0
_LEAST_MEAN_IOU = 0.9995
_FLIPPED = 0.08


@dataclass(frozen=True)
class Case:
    """image: uint8 [h, w, 3]; target: uint8 [h, w], 0 or 1."""

    image: np.ndarray
    target: np.ndarray


@dataclass
class Samples:
    """The measurements: processor seconds, one entry a turn; the rest, one a photograph."""

    theirs: list[float] = field(default_factory=list)
    their_second_output: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    iou: list[float] = field(default_factory=list)
    differing_pixels: list[int] = field(default_factory=list)
    soft_difference: list[float] = field(default_factory=list)


def noisy_target(name: str, height: int, width: int) -> np.ndarray:
    """An ellipse that depends on the name, some pixels flipped: uint8 [h, w]."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    cy, cx = height * rng.uniform(0.4, 0.6), width * rng.uniform(0.4, 0.6)
    ry, rx = height * rng.uniform(0.25, 0.35), width * rng.uniform(0.25, 0.35)
    y, x = np.arange(height)[:, None], np.arange(width)[None, :]
    inside = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1.0
    return (inside ^ (rng.random((height, width)) < _FLIPPED)).astype(np.uint8)


@dataclass(frozen=True)
class Work:
    """The photographs of a folder (None: the default), `most` at most, with noisy targets.

    `side` is the shorter side's pixels, to which they are resized as by `tasks.masking.make_masks`.
    """

    folder: Path | None
    side: int
    most: int | None

    def cases(self) -> list[Case]:
        from torchvision.transforms.functional import InterpolationMode, resize

        cases = []
        for path, image in _decoded(self.folder, self.most):
            small = np.asarray(resize(image, [self.side], InterpolationMode.BILINEAR))
            cases.append(Case(small, noisy_target(path.stem, *small.shape[:2])))
        return cases


def _decoded(folder: Path | None, most: int | None) -> list[tuple[Path, Any]]:
    # `find` leaves out grey and small ones. Here they belong: they are resized in any case, and
    # grey pixels lie on the edges of bins.
    from storage.errors.exceptions import ImageRejected
    from storage.images.decoding import decode

    found = photographs.find(folder)
    kinds = {path.suffix for path in found}
    decoded = []
    for path in sorted(found[0].parent.iterdir()):
        if path.suffix not in kinds:
            continue
        if len(decoded) == most:
            break
        with suppress(ImageRejected):
            decoded.append((path, decode(path.read_bytes()).image))
    return decoded


def compare(work: Work, rounds: int) -> Samples:
    """Time both on each photograph in turn, and compare their results.

    To be called in a fresh process: NumPy's BLAS counts its threads when it is first imported.
    """
    from benchmarks.reference.bilateral_solver import second_output, soft_mask
    from zutis_model.refinement.bilateral_solver import refine_mask

    cases = work.cases()
    for solve in (soft_mask, refine_mask):
        solve(cases[0].image, cases[0].target)
    samples = Samples()
    for number, case in enumerate(cases, 1):
        for _ in range(rounds):
            with Stopwatch() as solving:
                theirs = soft_mask(case.image, case.target)
            with Stopwatch() as labelling:
                second_output(theirs)
            with Stopwatch() as watch:
                ours = refine_mask(case.image, case.target)
            samples.theirs.append(solving.cpu + labelling.cpu)
            samples.their_second_output.append(labelling.cpu)
            samples.ours.append(watch.cpu)
        samples.iou.append(_iou(theirs > 0.5, ours > 0.5))
        samples.differing_pixels.append(int(((theirs > 0.5) != (ours > 0.5)).sum()))
        samples.soft_difference.append(float(np.abs(theirs - ours).max()))
        if number % 16 == 0:
            print(f"{number} of {len(cases)} photographs", flush=True)
    return samples


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    union = np.count_nonzero(a | b)
    return float(np.count_nonzero(a & b) / union) if union else 1.0


def measure_batched(work: Work, batch_size: int) -> list[Figure]:
    """Images a second of the solver in PyTorch, the batches on the device already."""
    import torch

    from zutis_model.refinement.batched_bilateral_solver import refine_masks_batched
    from zutis_model.refinement.bilateral_solver import refine_mask

    device = "cuda" if torch.cuda.is_available() else "cpu"
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    cases = work.cases()
    clock, pixels, soft_difference = Stopwatch(), 0, 0.0
    for number, batch in enumerate(_batches(cases, batch_size)):
        stacked = torch.from_numpy(np.stack([case.image for case in batch]))
        images = stacked.permute(0, 3, 1, 2).contiguous().to(device)
        targets = torch.from_numpy(np.stack([case.target for case in batch])).to(device)
        if number == 0:
            refine_masks_batched(images, targets)
        wait()
        with clock:
            soft = refine_masks_batched(images, targets)
            wait()
        for case, ours in zip(batch, soft.cpu().numpy(), strict=True):
            expected = refine_mask(case.image, case.target)
            pixels = max(pixels, int(((expected > 0.5) != (ours > 0.5)).sum()))
            soft_difference = max(soft_difference, float(np.abs(expected - ours).max()))
    name = torch.cuda.get_device_name() if device == "cuda" else device
    return [
        Figure(f"in PyTorch on {name}", len(cases) / clock.wall, "images/s"),
        Figure("in PyTorch, most pixels that differ from ours", pixels, "pixels"),
        Figure("in PyTorch, largest soft difference from ours", soft_difference, ""),
    ]


def _batches(cases: Sequence[Case], batch_size: int) -> Iterator[list[Case]]:
    """Batches of one shape, the fullest shape first."""
    by_shape: dict[tuple[int, ...], list[Case]] = defaultdict(list)
    for case in cases:
        by_shape[case.image.shape].append(case)
    for same in sorted(by_shape.values(), key=len, reverse=True):
        for start in range(0, len(same), batch_size):
            yield same[start : start + batch_size]


def first_call_seconds(cache: str) -> float:
    """A process's first refinement, imports included, compiled code lying in the folder `cache`."""
    os.environ["NUMBA_CACHE_DIR"] = cache
    with Stopwatch() as watch:
        from zutis_model.refinement.bilateral_solver import refine_mask

        refine_mask(np.zeros((64, 64, 3), np.uint8), np.ones((64, 64)))
    return watch.wall


def first_calls() -> list[Figure]:
    with tempfile.TemporaryDirectory() as cache:
        compiling, loading = (in_fresh_process(first_call_seconds, cache) for _ in range(2))
    return [
        Figure("first call on a machine", compiling, "s"),
        Figure("first call of a process after that", loading, "s"),
    ]


def figures(samples: Samples) -> list[Figure]:
    theirs, ours = median(samples.theirs), median(samples.ours)
    second = median(samples.their_second_output)
    return [
        Figure("reference", 1e3 * theirs, "ms"),
        Figure("of it the second output", 1e3 * second, "ms"),
        Figure("ours", 1e3 * ours, "ms"),
        Figure("reference / ours", theirs / ours, "times", at_least=_LEAST_TIMES_FASTER),
        Figure("the same without the second output", (theirs - second) / ours, "times"),
        Figure("1 - mean IoU", 1 - mean(samples.iou), "", limit=1 - _LEAST_MEAN_IOU),
        Figure("1 - least IoU", 1 - min(samples.iou), ""),
        Figure("most pixels that differ", max(samples.differing_pixels), "pixels"),
        Figure("largest soft difference", max(samples.soft_difference), ""),
    ]


def arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.set_defaults(threads=1)
    photographs.add_option(parser)
    parser.add_argument("--most", type=int, help="photographs at most (all)")
    parser.add_argument("--side", type=int, default=512, help="pixels of the shorter side (512)")
    parser.add_argument("--rounds", type=int, default=3, help="turns on each photograph (3)")
    parser.add_argument("--batched", action="store_true", help="measure the batched solver too")
    parser.add_argument("--batch-size", type=int, default=16, help="images a batch, at most (16)")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    use_cores(options.threads)
    load = load_average()

    starts = first_calls()
    work = Work(options.photographs, options.side, options.most)
    samples = in_fresh_process(compare, work, options.rounds)
    batched = in_fresh_process(measure_batched, work, options.batch_size) if options.batched else []
    report = Report(
        benchmark="mask_refinement",
        sizes={"photographs": len(samples.iou), "side": options.side, "rounds": options.rounds,
               "threads": options.threads},
        figures=[*figures(samples), *starts, *batched],
        samples=vars(samples),
        load=load,
    )  # fmt: skip
    publish(report, options.out)


if __name__ == "__main__":
    main()
