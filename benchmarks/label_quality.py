"""How good pseudo-labels are where truth is known: on the hard made world, with shipped networks.

Each seed gives a corpus of its own: several objects an image, look-alikes, clutter, occlusion,
near-duplicates, images of no kind. The pipeline's own stages make labels for its vocabulary, as
`zutis demo` does, and every label is compared with the truth:

- a label's category is right if the image shows an object of that name;
- its mask is on the category if it overlaps an object of that name no less than any other object;
- its true IoU is that of its mask with the best-matching object of that name, 0 if there is none.

The quality that the build has estimated for every label, without any of this, is compared with the
true IoU: rank correlation, areas under the ROC for wrong categories and for poor masks, calibration
error, and what dropping the worst fifth gains. `--plot` draws the calibration, `--labels` writes
every label with its signals and its truth.

Seeds below 100 are for tuning; the default ones were looked at by nobody who changed anything.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from statistics import mean
from typing import TYPE_CHECKING, Any, Final

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
    import numpy as np
    from numpy.typing import NDArray

    from flows.pipelines.build import Build
    from flows.settings.build import BuildSettings
    from made_world.corpus import TrueObject
    from tasks.quality.reliability import Reliability

    Mask = NDArray[np.bool_]

TUNING_SEEDS: Final = (11, 12)
HELD_OUT_SEEDS: Final = (301, 302)

_FOUND: Final = 0.5

_WORTH: Final[dict[str, tuple[str, dict[str, float]]]] = {
    "spearman": ("rank correlation of quality and true IoU", {"at_least": 0.7}),
    "wrong_category_auc": ("area under the ROC, wrong category", {"at_least": 0.95}),
    "poor_mask_auc": ("area under the ROC, IoU below 0.5", {"at_least": 0.9}),
    "calibration_error": ("expected calibration error of quality", {"limit": 0.05}),
    "gain": ("gain of dropping the worst fifth, over the possible one", {"at_least": 0.7}),
}
"""Names and goals of the figures, by the fields of `Reliability`."""


@dataclass(frozen=True)
class Measured:
    """The report, what quality is worth by seed, and all labels by seed."""

    report: Report
    worth: Mapping[int, Reliability]
    labels: Mapping[int, Sequence[Label]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Label:
    """A pseudo-label and what is true of it.

    Attributes:
        file: name of the image in the corpus.
        category: its name.
        rank: of the image among those retrieved for the category, from 1.
        mask: bool [h, w].
        right: the image shows the category.
        on_category: the mask overlaps an object of the category no less than any other.
        iou: with the best-matching object of the category, 0..1.
        estimates: what the build says of it, by name: quality, its factors and its signals.
    """

    file: str
    category: str
    rank: int
    mask: Mask
    right: bool
    on_category: bool
    iou: float
    estimates: Mapping[str, float | None]


def category_is_right(category: str, things: Sequence[TrueObject]) -> bool:
    """Whether an object goes by the category's name, or is of a kind of that name."""
    return any(category in (one.word, one.kind) for one in things)


def true_iou(category: str, mask: Mask, things: Sequence[TrueObject]) -> float:
    """IoU of a mask, bool [h, w], with the best-matching object of the category, 0..1."""
    from tasks.saliency_training.scores import iou

    ious = [iou(mask, one.mask) for one in things if category in (one.word, one.kind)]
    return float(max(ious, default=0.0))


def is_on(category: str, mask: Mask, things: Sequence[TrueObject]) -> bool:
    """Whether a mask, bool [h, w], overlaps an object of the category no less than any other."""
    overlaps = [(int((mask & one.mask).sum()), category in (one.word, one.kind)) for one in things]
    most = max((overlap for overlap, _ in overlaps), default=0)
    return most > 0 and (most, True) in overlaps


def hard_world(folder: Path, seed: int, images: int, per_category: int) -> BuildSettings:
    """A hard world in a folder, and the settings of a build on it, as `zutis demo` has them."""
    from flows.demo.settings import CLIP, MASK_SIZE, SELFMASK
    from flows.settings.build import BuildSettings
    from made_world.corpus import write_corpus
    from made_world.things.kinds import KINDS

    write_corpus(folder, seed, images, world="hard")
    vocabulary = folder / "vocabulary.txt"
    vocabulary.write_text("\n".join(KINDS) + "\n", encoding="utf-8")
    return BuildSettings(
        corpus=(str(folder / "pictures"),),
        vocabulary=str(vocabulary),
        per_category=per_category,
        clip=CLIP,
        selfmask=SELFMASK,
        mask_size=MASK_SIZE,
        device="cpu",
        store=str(folder / "store"),
    )


@contextmanager
def labelled_world(
    seed: int, images: int, per_category: int
) -> Iterator[tuple[Build, dict[str, tuple[TrueObject, ...]]]]:
    """A build on a hard world in a temporary folder, and the truth by file name."""
    from flows.execution.executors import LocalExecutor
    from flows.pipelines.build import build
    from flows.settings.options import changed
    from made_world.corpus import read_corpus_ground_truth
    from storage.artifacts.store import ArtifactStore

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = hard_world(folder, seed, images, per_category)
        settings = changed(settings, quality=True)
        built = build(settings, LocalExecutor(ArtifactStore(settings.store)))
        yield built, read_corpus_ground_truth(folder).things


def labels_of(built: Build, truth: Mapping[str, Sequence[TrueObject]]) -> list[Label]:
    """Every label of a build's data set, by category and rank."""
    from storage.shards.samples import ShardSamples

    places, estimates = _retrieved(built), _estimates(built)
    samples = ShardSamples.open(built.dataset)
    labels = []
    for at in range(len(samples)):
        category = samples.categories[int(samples.labels[at])]
        file, rank = places[category, samples.key(at)]
        mask, things = samples.decode_object(at, samples.read(at)), truth[file]
        labels.append(
            Label(
                file=file,
                category=category,
                rank=rank,
                mask=mask,
                right=category_is_right(category, things),
                on_category=is_on(category, mask, things),
                iou=true_iou(category, mask, things),
                estimates=estimates[category, samples.key(at)],
            )
        )
    return sorted(labels, key=lambda one: (one.category, one.rank))


def _retrieved(built: Build) -> dict[tuple[str, str], tuple[str, int]]:
    """(file, rank) by (category, image_id)."""
    from storage.images.records import read_parquet
    from tasks.stage.layout import RETRIEVAL, RETRIEVED_IMAGES

    with built.retrieval.open(RETRIEVED_IMAGES) as file:
        images = read_parquet(file, ["image_id", "uri"]).to_pylist()
    names = {row["image_id"]: PurePosixPath(row["uri"]).name for row in images}
    with built.retrieval.open(RETRIEVAL) as file:
        rows = read_parquet(file, ["category", "rank", "image_id"]).to_pylist()
    return {
        (row["category"], row["image_id"]): (names[row["image_id"]], row["rank"]) for row in rows
    }


def _estimates(built: Build) -> dict[tuple[str, str], dict[str, float | None]]:
    """Quality, its factors and all signals by (category, image_id)."""
    from storage.images.records import read_parquet
    from tasks.stage.layout import LABELS

    assert built.judged is not None, "labels are judged here"
    with built.judged.scored.open(LABELS) as file:
        rows = read_parquet(file).drop_columns(["mask_id", "category_id", "rank"]).to_pylist()
    return {(row.pop("category"), row.pop("image_id")): row for row in rows}


def scores_of(labels: Sequence[Label]) -> dict[str, float]:
    """What a set of labels is worth, by the names of the figures; shares 0..1."""
    return {
        "retrieval precision": mean(one.right for one in labels),
        "masks on their category": mean(one.on_category for one in labels),
        "mean true IoU": mean(one.iou for one in labels),
        "mean true IoU where the category is right": mean(one.iou for one in labels if one.right),
        f"true IoU of {_FOUND} or more": mean(one.iou >= _FOUND for one in labels),
    }


def estimate_of(labels: Sequence[Label]) -> Reliability:
    """What the estimated quality of labels is worth; labels without one are left out."""
    import numpy as np

    from tasks.quality.reliability import reliability

    known = [one for one in labels if one.estimates["quality"] is not None]
    return reliability(
        np.array([one.estimates["quality"] for one in known], dtype=np.float64),
        np.array([one.estimates["category_probability"] for one in known], dtype=np.float64),
        np.array([one.iou for one in known]),
        np.array([one.right for one in known]),
    )


def elsewhere_auc(labels: Sequence[Label]) -> float:
    """Area under the ROC of the category's probability as a sign that the mask is on something
    else, whether or not the image shows the category; NaN if all masks are, or none."""
    from sklearn.metrics import roc_auc_score

    known = [one for one in labels if one.estimates["quality"] is not None]
    on = [one.on_category for one in known]
    if all(on) or not any(on):
        return float("nan")
    return float(roc_auc_score(on, [one.estimates["category_probability"] for one in known]))


def by_category(labels: Sequence[Label]) -> dict[str, dict[str, float]]:
    """Precision and mean true IoU of each category."""
    found: dict[str, dict[str, float]] = {}
    for category in dict.fromkeys(one.category for one in labels):
        own = [one for one in labels if one.category == category]
        found[category] = {
            "precision": round(mean(one.right for one in own), 3),
            "true IoU": round(mean(one.iou for one in own), 3),
        }
    return found


def measure(seeds: Sequence[int], images: int, per_category: int) -> Measured:
    """Labels of each seed's world, and the means of their scores and of what quality is worth."""
    load = load_average()
    scores: dict[str, list[float]] = {}
    worth: dict[int, Reliability] = {}
    samples: dict[str, Any] = {}
    found: dict[int, list[Label]] = {}
    elsewhere: list[float] = []
    for seed in seeds:
        watch = Stopwatch()
        with watch, labelled_world(seed, images, per_category) as (built, truth):
            labels = labels_of(built, truth)
            method = built.judged.scored.notes["method"] if built.judged else ""
        for name, value in scores_of(labels).items():
            scores.setdefault(name, []).append(value)
        own = {name: round(values[-1], 4) for name, values in scores.items()}
        found[seed], worth[seed] = labels, estimate_of(labels)
        elsewhere.append(elsewhere_auc(labels))
        print(f"seed {seed}: {len(labels):,} labels, {own}", flush=True)
        samples[f"seed {seed}"] = {
            "labels": len(labels),
            "scores": own,
            "quality": {"method": method, **asdict(worth[seed])},
            "categories": by_category(labels),
            "seconds": watch.seconds(),
        }
    figures = [Figure(name, mean(values), "0..1") for name, values in scores.items()]
    figures.append(Figure("area under the ROC, mask on something else", mean(elsewhere), "0..1"))
    report = Report(
        benchmark="label_quality",
        sizes={"images": images, "per_category": per_category, "seeds": list(seeds)},
        figures=[*figures, *_worth_figures(list(worth.values()))],
        samples=samples,
        load=load,
    )
    return Measured(report, worth, found)


def _worth_figures(worth: Sequence[Reliability]) -> list[Figure]:
    """Means over the worlds; a figure that a world can't tell is left out of its mean."""
    figures = []
    for field, (name, bounds) in _WORTH.items():
        told = [value for each in worth if (value := getattr(each, field)) is not None]
        if told:
            figures.append(Figure(name, mean(told), "0..1", **bounds))
    return figures


def calibration_chart(worth: Mapping[int, Reliability]) -> str:
    """An SVG: the mean true IoU of labels by their quality, in ten bins of each world."""
    from flows.reports.charts import Curve, Series, line_chart

    lines = [
        Series(name=f"seed {seed}", points=tuple(each[:2] for each in one.bins))
        for seed, one in worth.items()
    ]
    exact = Series(name="exact", points=((0.0, 0.0), (1.0, 1.0)))
    return line_chart(
        Curve(
            title="Quality of labels and their true IoU",
            x_label="estimated quality, ten bins of equal size",
            y_label="mean true IoU",
            series=(*lines, exact),
        )
    ).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)


def _write_labels(found: Mapping[int, Sequence[Label]], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {
            "seed": seed,
            "file": one.file,
            "category": one.category,
            "rank": one.rank,
            "right": one.right,
            "on_category": one.on_category,
            "iou": one.iou,
            **one.estimates,
        }
        for seed, labels in found.items()
        for one in labels
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)


def _parser() -> argparse.ArgumentParser:
    parser = argument_parser(__doc__)
    parser.add_argument("--images", type=int, default=1500, help="(default: %(default)s)")
    parser.add_argument("--per-category", type=int, default=60, help="(default: %(default)s)")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=list(HELD_OUT_SEEDS), help="(default: %(default)s)"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write the calibration as SVG")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="write all labels as Parquet")
    return parser


def main() -> None:
    options = _parser().parse_args()
    use_cores(options.threads)
    measured = measure(options.seeds, options.images, options.per_category)
    publish(measured.report, options.out)
    if options.plot is not None:
        options.plot.write_text(calibration_chart(measured.worth) + "\n")
    if options.labels is not None:
        _write_labels(measured.labels, options.labels)


if __name__ == "__main__":
    main()
