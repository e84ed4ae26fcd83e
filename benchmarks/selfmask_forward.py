"""SelfMask's forward pass against the reference's way of computing it, and against the floor.

One real photograph at 512 x 683 goes through both, in turns in one process, with the same
weights; each turn also measures the machine's rate of float32 matrix products. The floor is the
time that the forward's multiplications and additions would take at that rate: no arrangement of
the same products in float32 goes below it. Medians are compared. Results that don't agree end
the benchmark with an error.

Memory is measured in processes of their own. bfloat16 is optional; the agreement of its masks is
measured on several photographs. The weights are synthetic: they cost the same as trained
ones, but the agreement of trained ones may be another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
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
    from torch import Tensor

_LEAST_TIMES_FASTER = 3.5
_MOST_TIMES_FLOOR = 1.25
_MOST_PART_OF_FULL_MASKS = 0.1  # of the memory that all queries' masks would take
_MASK_TOLERANCE = 2e-4
_OBJECTNESS_TOLERANCE = 1e-5
# (m, k, n) of products whose rate is measured: a large square one, and those of the perceptrons.
_PRODUCTS = ((4096, 4096, 4096), (5504, 384, 1536), (5504, 1536, 384))
_FEW_QUERIES, _MANY_QUERIES = 10, 200


@dataclass(frozen=True)
class Size:
    """Image rows and columns, and the network's queries."""

    height: int
    width: int
    queries: int


@dataclass
class Samples:
    """Seconds of every measurement, and operations a second of the matrix products."""

    reference: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    bfloat16: list[float] = field(default_factory=list)
    product_rate: dict[str, list[float]] = field(default_factory=dict)


def count_operations(size: Size) -> int:
    """Multiplications and additions in the matrix products of `SelfMask.predict`, one image."""
    patch, d, q = 8, 384, size.queries
    patches = -(-size.height // patch) * -(-size.width // patch)
    n = patches + 1
    # Weights: 4 d² in the projections of an attention, 8 d² in a perceptron.
    encoder_layer = 12 * n * d**2 + 2 * n**2 * d
    self_attention = 4 * q * d**2 + 2 * q**2 * d
    cross_attention = 2 * (q + patches) * d**2 + 2 * q * patches * d
    decoder_layer = self_attention + cross_attention + 8 * q * d**2
    multiplications = (
        patches * 3 * patch**2 * d  # patch embedding
        + 12 * encoder_layer
        + 6 * decoder_layer
        + q * (2 * d**2 + d)  # objectness
        + patches * d  # the best query's mask
    )
    return 2 * multiplications


def check_count(size: Size, images: Tensor) -> None:
    """Compare the count with PyTorch's own while the network runs."""
    from torch.utils.flop_counter import FlopCounterMode

    from zutis_model.saliency.selfmask import load_selfmask

    with FlopCounterMode(display=False) as counter:
        load_selfmask(num_queries=size.queries).predict(images)
    counted, expected = counter.get_total_flops(), count_operations(size)
    if abs(counted / expected - 1) > 1e-3:
        raise SystemExit(f"{expected:,} operations were expected, PyTorch counts {counted:,}.")


def read_photograph(path: Path, height: int, width: int) -> Tensor:
    """float32 [1, 3, h, w], normalised."""
    import numpy as np
    import torch
    from PIL import Image

    from zutis_model.layers.normalisation import normalise

    with Image.open(path) as image:
        resized = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    return normalise(torch.from_numpy(np.array(resized)).permute(2, 0, 1))[None]


def closest_in_shape(paths: list[Path], size: Size, count: int) -> list[Path]:
    """The photographs that resizing to `size` distorts least, best first."""
    from PIL import Image

    def distortion(path: Path) -> float:
        with Image.open(path) as image:
            return abs(image.width / image.height - size.width / size.height)

    return sorted(paths, key=distortion)[:count]


def check_agreement(size: Size, images: Tensor) -> dict[str, float]:
    """Largest differences between ours and the baseline; also the first, slower runs of both."""
    import torch
    import torch.nn.functional as F  # noqa: N812 - the field's name for it

    from benchmarks.reference.selfmask import ReferenceSelfMask
    from zutis_model.saliency.selfmask import load_selfmask

    network = load_selfmask(num_queries=size.queries)
    expected, expected_logits = ReferenceSelfMask(network).predict(images)
    best = expected_logits[0].argmax()
    soft, objectness = network.predict(images)
    with torch.inference_mode():
        output = network(images)
    masks = F.interpolate(output.mask_pred, scale_factor=4, mode="bilinear")
    masks = masks[..., : size.height, : size.width]
    all_objectness = (output.objectness - expected_logits.sigmoid()).abs().max().item()
    best_objectness = (objectness - expected_logits.sigmoid()[:, best]).abs().max().item()
    differences = {
        "mask of the best query": (soft[0] - expected[0, best]).abs().max().item(),
        "masks of all queries": (masks - expected).abs().max().item(),
        "objectness": max(all_objectness, best_objectness),
    }
    for name, difference in differences.items():
        limit = _OBJECTNESS_TOLERANCE if name == "objectness" else _MASK_TOLERANCE
        if not difference <= limit:
            raise SystemExit(f"Ours differs from the baseline by {difference:g} in the {name}.")
    return differences


def measure_in_turns(size: Size, images: Tensor, rounds: int, turns: int) -> Samples:
    """`rounds` times: matrix products, the baseline once, ours `turns` times, bfloat16 once."""
    from benchmarks.reference.selfmask import ReferenceSelfMask
    from zutis_model.saliency.selfmask import load_selfmask

    ours = load_selfmask(num_queries=size.queries)
    reference = ReferenceSelfMask(ours)
    in_bfloat16 = load_selfmask(num_queries=size.queries, precision="bfloat16")
    in_bfloat16.predict(images)
    samples = Samples(product_rate={_named(shape): [] for shape in _PRODUCTS})
    for number in range(rounds):
        samples.reference.append(_seconds(lambda: reference.predict(images)))
        for _ in range(turns):
            for shape in _PRODUCTS:
                samples.product_rate[_named(shape)].append(_product_rate(*shape))
            samples.ours.append(_seconds(lambda: ours.predict(images)))
        samples.bfloat16.append(_seconds(lambda: in_bfloat16.predict(images)))
        print(
            f"round {number + 1}: reference {samples.reference[-1]:.2f} s, ours "
            f"{median(samples.ours[-turns:]):.2f} s, bfloat16 {samples.bfloat16[-1]:.2f} s",
            flush=True,
        )
    return samples


def _seconds(run: Callable[[], object]) -> float:
    with Stopwatch() as watch:
        run()
    return watch.wall


def _product_rate(m: int, k: int, n: int) -> float:
    """float32 operations a second, the median of several products of [m, k] and [k, n]."""
    import torch

    left, right, product = torch.randn(m, k), torch.randn(k, n), torch.empty(m, n)
    torch.mm(left, right, out=product)
    repeats = max(3, round(2e11 / (2 * m * k * n)))
    seconds = [_seconds(lambda: torch.mm(left, right, out=product)) for _ in range(repeats)]
    return 2 * m * k * n / median(seconds)


def _named(shape: tuple[int, int, int]) -> str:
    return " x ".join(map(str, shape))


def measure_memory(kind: str, size: Size, photograph: Path) -> dict[str, float]:
    """Peak memory, in MB, of a process that predicts once; and its memory before that."""
    from benchmarks.reference.selfmask import ReferenceSelfMask
    from zutis_model.saliency.selfmask import load_selfmask

    precision = "bfloat16" if kind == "bfloat16" else "float32"
    network = load_selfmask(num_queries=size.queries, precision=precision)
    images = read_photograph(photograph, size.height, size.width)
    loaded = memory_mb()
    (ReferenceSelfMask(network) if kind == "reference" else network).predict(images)
    return {"peak": peak_memory_mb(), "loaded": loaded}


def measure_bfloat16(size: Size, paths: list[Path]) -> dict[str, list[Any]]:
    """Of each photograph: IoU of the thresholded masks, and whether the best query is the same.

    Photographs have their own shape, the shorter side resized as `size` has it. IoU of two empty
    masks is 1.
    """
    import torch
    from PIL import Image

    from zutis_model.saliency.selfmask import load_selfmask

    exact = load_selfmask(num_queries=size.queries)
    fast = load_selfmask(num_queries=size.queries, precision="bfloat16")
    found: dict[str, list[Any]] = {"iou": [], "same_query": []}
    for path in paths:
        with Image.open(path) as image:
            scale = min(size.height, size.width) / min(image.size)
            width, height = (round(side * scale) for side in image.size)
        images = read_photograph(path, height, width)
        with torch.inference_mode():
            outputs = exact(images), fast(images)
        best = [int(output.objectness_logits.argmax()) for output in outputs]
        ours, other = (
            torch.nn.functional.interpolate(
                output.mask_pred[:, [query]], scale_factor=4, mode="bilinear"
            )[..., :height, :width]
            > 0.5
            for output, query in zip(outputs, best, strict=True)
        )
        union = (ours | other).sum().item()
        found["iou"].append((ours & other).sum().item() / union if union else 1.0)
        found["same_query"].append(best[0] == best[1])
    return found


def figures(
    size: Size,
    samples: Samples,
    differences: dict[str, float],
    memory: dict[str, dict[str, float]],
    bfloat16: dict[str, list[Any]],
) -> list[Figure]:
    reference, ours = median(samples.reference), median(samples.ours)
    fast = median(samples.bfloat16)
    rates = {name: median(rates) for name, rates in samples.product_rate.items()}
    best = max(rates, key=lambda name: rates[name])
    floor = count_operations(size) / rates[best]
    growth = memory[f"{_MANY_QUERIES} queries"]["peak"] - memory[f"{_FEW_QUERIES} queries"]["peak"]
    full_masks_mb = (_MANY_QUERIES - _FEW_QUERIES) * size.height * size.width * 4 / 1e6
    return [
        Figure("reference", reference, "s"),
        Figure("ours", ours, "s"),
        Figure("reference / ours", reference / ours, "times", at_least=_LEAST_TIMES_FASTER),
        Figure("operations", count_operations(size) / 1e9, "GFLOP"),
        *(Figure(f"product {name}", rate / 1e9, "GFLOP/s") for name, rate in rates.items()),
        Figure(f"float32 floor, at the rate of {best}", floor, "s"),
        Figure("ours / floor", ours / floor, "times", _MOST_TIMES_FLOOR),
        *(Figure(f"difference, {name}", value * 1e6, "e-6") for name, value in differences.items()),
        Figure("peak memory, reference", memory["reference"]["peak"], "MB"),
        Figure("peak memory, ours", memory["ours"]["peak"], "MB"),
        Figure("of it before the forward", memory["ours"]["loaded"], "MB"),
        Figure(f"all masks of {_MANY_QUERIES - _FEW_QUERIES} queries", full_masks_mb, "MB"),
        Figure(
            f"memory growth, {_FEW_QUERIES} to {_MANY_QUERIES} queries",
            growth,
            "MB",
            _MOST_PART_OF_FULL_MASKS * full_masks_mb,
        ),
        Figure("bfloat16", fast, "s"),
        Figure("ours / bfloat16", ours / fast, "times"),
        Figure("peak memory, bfloat16", memory["bfloat16"]["peak"], "MB"),
        Figure("bfloat16 masks, mean IoU", 100 * mean(bfloat16["iou"]), "%"),
        Figure("bfloat16 masks, least IoU", 100 * min(bfloat16["iou"]), "%"),
        Figure("bfloat16, another query is best", bfloat16["same_query"].count(False), "images"),
    ]


def main() -> None:
    parser = argument_parser(__doc__)
    photographs.add_option(parser)
    parser.add_argument("--height", type=int, default=512)
    parser.add_argument("--width", type=int, default=683)
    parser.add_argument("--queries", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5, help="runs of the reference (5)")
    parser.add_argument("--turns", type=int, default=3, help="of ours for each of its (3)")
    parser.add_argument("--compared", type=int, default=16, help="photographs for bfloat16 (16)")
    options = parser.parse_args()
    use_cores(options.threads)
    load = load_average()

    size = Size(options.height, options.width, options.queries)
    paths = photographs.find(options.photographs)
    (photograph,) = closest_in_shape(paths, size, 1)
    images = read_photograph(photograph, size.height, size.width)
    check_count(size, images)
    differences = check_agreement(size, images)
    samples = measure_in_turns(size, images, options.rounds, options.turns)
    memory = {
        kind: in_fresh_process(measure_memory, kind, size, photograph)
        for kind in ("reference", "ours", "bfloat16")
    }
    for queries in (_FEW_QUERIES, _MANY_QUERIES):
        with_queries = Size(size.height, size.width, queries)
        memory[f"{queries} queries"] = in_fresh_process(
            measure_memory, "ours", with_queries, photograph
        )
    bfloat16 = measure_bfloat16(size, paths[: options.compared])
    report = Report(
        benchmark="selfmask_forward",
        sizes=vars(size)
        | {
            "photograph": photograph.name,
            "compared": len(bfloat16["iou"]),
            "weights": "synthetic",
            "threads": options.threads,
            "rounds": options.rounds,
        },
        figures=figures(size, samples, differences, memory, bfloat16),
        samples=vars(samples) | {"memory": memory, "bfloat16": bfloat16},
        load=load,
    )
    publish(report, options.out)


if __name__ == "__main__":
    main()
