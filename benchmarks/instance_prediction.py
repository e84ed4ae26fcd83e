"""Instances and semantic maps against the reference's way of predicting them, on one thread.

Instances: synthetic scenes, each with a few objects of fewer categories, and proposals around
them, so that most overlap others of their category; tokens are noisy text embeddings. Ours and
the reference's loops go from the network's output to COCO records, in turns on each scene. By
default no proposal is empty, which costs ours the most: it leaves empty ones out before they are
upsampled, the reference doesn't (`--filled`). Categories, scores, masks, boxes and the order must
agree (the reference's order of categories is that of a set: its records are brought into ours, by
score and then category). The limit is for the default, hard suppression.

Semantic maps: as many categories as ImageNet-S has. Ours upsamples some categories at a time, the
baseline all at once. Labels must agree.

Medians are compared. Times are processor times: with one thread they equal clock times on an idle
machine. Memory is that of one prediction of semantic maps in a process of its own, as its peak and
its growth. Results that don't agree end the benchmark with an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from statistics import mean, median
from typing import TYPE_CHECKING, Any, Literal

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
    from torch import Generator, Tensor

    from zutis_model.zutis.mask_suppression import Suppression

Kind = Literal["reference", "ours"]
Record = dict[str, Any]

_LEAST_TIMES_FASTER = 8.0
_SCORE_TOLERANCE = 1e-6
_MODES: dict[str, Suppression | None] = {
    "hard": "hard",
    "linear": "linear",
    "gaussian": "gaussian",
    "no suppression": None,
}
_PIXELS_A_TOKEN = 8
_WIDTH = 512
# Norms of the noise in tokens; that of a text embedding is 1. Semantic maps get so much that nearly
# every name wins somewhere, by little.
_NOISE, _NOISE_OF_MAPS = 1.0, 8.0
_CATEGORIES_A_SCENE = 4


@dataclass(frozen=True)
class Size:
    """Of a scene.

    Attributes:
        height: image rows.
        width: image columns.
        queries: proposals.
        filled: of them, those that aren't empty.
        objects: that the proposals lie around.
        categories: the background included.
    """

    height: int
    width: int
    queries: int
    filled: int
    objects: int
    categories: int

    @property
    def image(self) -> tuple[int, int]:
        return self.height, self.width

    @property
    def grid(self) -> tuple[int, int]:
        return self.height // _PIXELS_A_TOKEN, self.width // _PIXELS_A_TOKEN


@dataclass(frozen=True, eq=False)
class Scene:
    """Network output for one image: [1, q, h, w], [1, h, w, d], [k, d]."""

    mask_proposals: Tensor
    patch_tokens: Tensor
    text_embeddings: Tensor


@dataclass
class Turns:
    """Processor seconds of every prediction."""

    reference: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)

    @property
    def times_faster(self) -> float:
        return median(self.reference) / median(self.ours)


@dataclass
class Agreement:
    """Instances of every scene, and the largest difference of a score."""

    instances: list[int] = field(default_factory=list)
    score_difference: float = 0.0


def make_scene(size: Size, seed: int, noise: float = _NOISE) -> Scene:
    import torch
    import torch.nn.functional as F  # noqa: N812 - the field's name for it

    random = torch.Generator().manual_seed(seed)
    text_embeddings = F.normalize(torch.randn(size.categories, _WIDTH, generator=random), dim=1)
    objects = torch.rand(size.objects, 4, generator=random)
    objects = torch.cat([0.15 + 0.7 * objects[:, :2], 0.1 + 0.15 * objects[:, 2:]], dim=1)
    chosen = torch.randperm(size.categories - 1, generator=random)[:_CATEGORIES_A_SCENE] + 1
    labels = torch.zeros(size.grid, dtype=torch.int64)
    for number, distances in enumerate(_distances(objects, size.grid)):
        labels[distances < 1] = chosen[number % len(chosen)]
    directions = F.normalize(torch.randn(*size.grid, _WIDTH, generator=random), dim=-1)
    return Scene(
        mask_proposals=_proposals(objects, size, random)[None],
        patch_tokens=F.normalize(text_embeddings[labels] + noise * directions, dim=-1)[None],
        text_embeddings=text_embeddings,
    )


def _proposals(objects: Tensor, size: Size, random: Generator) -> Tensor:
    """float [q, h, w]: soft ellipses, each near one of the objects and of about its size."""
    import torch

    near = objects[torch.randint(len(objects), (size.queries,), generator=random)]
    shift = 0.3 * near[:, 2:] * torch.randn(size.queries, 2, generator=random)
    scale = 0.7 + 0.6 * torch.rand(size.queries, 2, generator=random)
    moved = torch.cat([near[:, :2] + shift, near[:, 2:] * scale], dim=1)
    proposals = torch.sigmoid(6 * (1 - _distances(moved, size.grid)))
    proposals[size.filled :] *= 0.5  # nowhere above the threshold
    return proposals


def _distances(ellipses: Tensor, grid: tuple[int, int]) -> Tensor:
    """From centre y, x and radii y, x, [n, 4], shares of the image; below 1 inside: [n, h, w]."""
    import torch

    cy, cx, ry, rx = ellipses.T[..., None, None]
    y, x = torch.linspace(0, 1, grid[0])[:, None], torch.linspace(0, 1, grid[1])
    distances: Tensor = (((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2).sqrt()
    return distances


def predict_records(kind: Kind, scene: Scene, size: Size, mode: str) -> list[Record]:
    """COCO records of the scene, by the reference's loops or by ours."""
    from benchmarks.reference.instance_prediction import reference_instances
    from zutis_model.zutis.instance_prediction import coco_predictions, predict_instances

    output = scene.mask_proposals, scene.patch_tokens, scene.text_embeddings
    if kind == "reference":
        return reference_instances(*output, size.image, _MODES[mode])[0]
    (instances,) = predict_instances(*output, size=size.image, suppression=_MODES[mode])
    return coco_predictions(instances, image_id=0, box_format="xyxy")


def note_agreement(
    agreement: Agreement, theirs: Sequence[Record], ours: Sequence[Record], where: str
) -> None:
    """Raises SystemExit if the records aren't the same in the same order."""
    theirs = sorted(theirs, key=lambda record: (-record["score"], record["category_id"]))
    if len(theirs) != len(ours):
        raise SystemExit(f"{where}: {len(ours)} instances, the baseline has {len(theirs)}.")
    for place, (expected, record) in enumerate(zip(theirs, ours, strict=True)):
        counts = expected["segmentation"]["counts"].decode("ascii")
        exact = {
            "category": (expected["category_id"], record["category_id"]),
            "mask": (counts, record["segmentation"]["counts"]),
            "box": (expected["bbox"], record["bbox"]),
        }
        for name, (wanted, found) in exact.items():
            if wanted != found:
                raise SystemExit(f"{where}: the {name} of instance {place} is not the baseline's.")
        difference = abs(expected["score"] - record["score"])
        if not difference <= _SCORE_TOLERANCE:
            raise SystemExit(f"{where}: the score of instance {place} differs by {difference:g}.")
        agreement.score_difference = max(agreement.score_difference, difference)
    agreement.instances.append(len(ours))


def measure_instances(
    scenes: Sequence[Scene], size: Size, rounds: int
) -> tuple[dict[str, Turns], dict[str, Agreement]]:
    """`rounds` times each scene and suppression: the baseline, then ours; results compared."""
    turns = {mode: Turns() for mode in _MODES}
    agreements = {mode: Agreement() for mode in _MODES}
    for kind in ("reference", "ours"):
        predict_records(kind, scenes[0], size, "hard")
    for mode in _MODES:
        for number, scene in enumerate(scenes):
            for _ in range(rounds):
                theirs = _timed(
                    turns[mode].reference, predict_records, "reference", scene, size, mode
                )
                ours = _timed(turns[mode].ours, predict_records, "ours", scene, size, mode)
            note_agreement(agreements[mode], theirs, ours, f"{mode}, image {number}")
        print(f"{mode}: {turns[mode].times_faster:.1f} times faster", flush=True)
    return turns, agreements


def _timed(seconds: list[float], function: Callable[..., Any], *arguments: object) -> Any:
    with Stopwatch() as watch:
        result = function(*arguments)
    seconds.append(watch.cpu)
    return result


def predict_labels(kind: Kind, scene: Scene, size: Size) -> Tensor:
    """int64 [1, H, W]."""
    from benchmarks.reference.instance_prediction import reference_labels
    from zutis_model.zutis.semantic_prediction import semantic_labels

    predict = reference_labels if kind == "reference" else semantic_labels
    return predict(scene.patch_tokens, scene.text_embeddings, size.image)


def measure_labels(scene: Scene, size: Size, rounds: int) -> Turns:
    """The baseline and ours, in turns; labels compared."""
    differing = int(
        (predict_labels("reference", scene, size) != predict_labels("ours", scene, size)).sum()
    )
    if differing:
        raise SystemExit(f"{differing} labels of semantic maps are not the baseline's.")
    turns = Turns()
    for _ in range(rounds):
        _timed(turns.reference, predict_labels, "reference", scene, size)
        _timed(turns.ours, predict_labels, "ours", scene, size)
    return turns


def measure_labels_memory(kind: Kind, size: Size) -> dict[str, float]:
    """Peak memory, in MB, of a process that predicts once; and its memory before that."""
    # Imported before anything is measured.
    import benchmarks.reference.instance_prediction  # noqa: F401
    import zutis_model.zutis.semantic_prediction  # noqa: F401

    scene = make_scene(size, seed=0, noise=_NOISE_OF_MAPS)
    before = memory_mb()
    predict_labels(kind, scene, size)
    return {"peak": peak_memory_mb(), "before": before}


def instance_figures(turns: dict[str, Turns], agreements: dict[str, Agreement]) -> list[Figure]:
    figures = []
    for mode, measured in turns.items():
        limit = _LEAST_TIMES_FASTER if mode == "hard" else None
        found = agreements[mode]
        figures += [
            Figure(f"{mode}: reference", 1e3 * median(measured.reference), "ms"),
            Figure(f"{mode}: ours", 1e3 * median(measured.ours), "ms"),
            Figure(f"{mode}: reference / ours", measured.times_faster, "times", at_least=limit),
            Figure(f"{mode}: instances an image", mean(found.instances), ""),
            Figure(f"{mode}: largest score difference", found.score_difference, ""),
        ]
    return figures


def label_figures(turns: Turns, memory: dict[str, dict[str, float]]) -> list[Figure]:
    theirs, ours = memory["reference"], memory["ours"]
    growth = (ours["peak"] - ours["before"]) / (theirs["peak"] - theirs["before"])
    return [
        Figure("maps at once", 1e3 * median(turns.reference), "ms"),
        Figure("maps in blocks", 1e3 * median(turns.ours), "ms"),
        Figure("maps: at once / in blocks", turns.times_faster, "times"),
        Figure("maps at once: peak memory", theirs["peak"], "MB"),
        Figure("maps at once: memory before", theirs["before"], "MB"),
        Figure("maps in blocks: peak memory", ours["peak"], "MB"),
        Figure("maps in blocks: memory before", ours["before"], "MB"),
        Figure("peak memory: in blocks / at once", ours["peak"] / theirs["peak"], ""),
        Figure("the same less the memory before", growth, ""),
    ]


def main() -> None:
    parser = argument_parser(__doc__)
    parser.set_defaults(threads=1)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--filled", type=int, help="proposals that aren't empty (all)")
    parser.add_argument("--objects", type=int, default=8, help="an image (8)")
    parser.add_argument("--categories", type=int, default=81, help="with the background (81)")
    parser.add_argument("--names", type=int, default=919, help="of the semantic maps (919)")
    parser.add_argument("--images", type=int, default=20, help="scenes (20)")
    parser.add_argument("--rounds", type=int, default=3, help="turns on each scene (3)")
    parser.add_argument("--map-rounds", type=int, default=7, help="turns on semantic maps (7)")
    options = parser.parse_args()
    use_cores(options.threads)
    load = load_average()

    filled = options.queries if options.filled is None else options.filled
    size = Size(options.height, options.width, options.queries, filled, options.objects,
                options.categories)  # fmt: skip
    scenes = [make_scene(size, seed) for seed in range(options.images)]
    turns, agreements = measure_instances(scenes, size, options.rounds)
    of_maps = replace(size, categories=options.names)
    memory = {
        kind: in_fresh_process(measure_labels_memory, kind, of_maps)
        for kind in ("reference", "ours")
    }
    map_scene = make_scene(of_maps, seed=0, noise=_NOISE_OF_MAPS)
    map_turns = measure_labels(map_scene, of_maps, options.map_rounds)
    report = Report(
        benchmark="instance_prediction",
        sizes=vars(size)
        | {
            "images": options.images,
            "names of semantic maps": options.names,
            "threads": options.threads,
            "rounds": options.rounds,
        },
        figures=[*instance_figures(turns, agreements), *label_figures(map_turns, memory)],
        samples={mode: vars(measured) for mode, measured in turns.items()}
        | {"semantic maps": vars(map_turns), "memory": memory},
        load=load,
    )
    publish(report, options.out)


if __name__ == "__main__":
    main()
