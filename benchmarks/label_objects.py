"""What several labels an image find where truth is known: on the hard made world.

Each seed gives a corpus of its own. Two builds, one object an image and many, take the same images;
they are compared with all true objects of the vocabulary in the images that were retrieved,
whether these got a label or not:

- recall: the share of the true objects that a label has, of their category, with an IoU of 0.5;
- recall of any category: the same, whatever the labels are called;
- AP50 by COCO's rules; a label's score is the retrieval's probability of its category, and with
  many objects that of its name;
- precision: the share of the labels whose mask overlaps no true object, of whatever kind, more than
  one of its category. Look-alikes and clutter are objects, and of no category.

Seeds below 100 are for tuning; the default ones were looked at by nobody who changed anything.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from statistics import mean
from typing import TYPE_CHECKING, Any, Final

from benchmarks.label_quality import HELD_OUT_SEEDS, hard_world
from benchmarks.measuring import (
    Figure,
    Report,
    argument_parser,
    load_average,
    publish,
    use_cores,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from flows.pipelines.build import Build
    from made_world.corpus import TrueObject

    Mask = NDArray[np.bool_]

LEAST_RECALL_RATIO: Final = 1.8
LEAST_AP_RATIO: Final = 1.5
LEAST_PRECISION: Final = 0.7

_FOUND: Final = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class ObjectLabel:
    """A label: file name of its image, category, mask bool [h, w], and score, 0..1."""

    file: str
    category: str
    mask: Mask
    score: float


def category_of(thing: TrueObject, vocabulary: Sequence[str]) -> str | None:
    """What the vocabulary calls an object; None where it has no name for it."""
    return next((name for name in (thing.kind, thing.word) if name in vocabulary), None)


def scores_of(
    labels: Sequence[ObjectLabel],
    truth: Mapping[str, Sequence[TrueObject]],
    vocabulary: Sequence[str],
) -> dict[str, float]:
    """What labels are worth, 0..1 but for the labels an image.

    Args:
        labels: of the images of `truth`.
        truth: all objects of each image, by file name.
        vocabulary: names of the categories.
    """
    found, found_any, right = set(), set(), 0
    for label in labels:
        things = truth[label.file]
        ious = [_iou(label.mask, thing.mask) for thing in things]
        names = [category_of(thing, vocabulary) for thing in things]
        for number, (iou, name) in enumerate(zip(ious, names, strict=True)):
            if name is not None and iou >= _FOUND:
                found_any.add((label.file, number))
                if name == label.category:
                    found.add((label.file, number))
        best = max(ious, default=0.0)
        right += best > 0 and names[ious.index(best)] == label.category
    every = sum(
        category_of(thing, vocabulary) is not None for things in truth.values() for thing in things
    )
    return {
        "recall": len(found) / max(every, 1),
        "recall of any category": len(found_any) / max(every, 1),
        "AP50": _ap50(labels, truth, vocabulary),
        "precision": right / max(len(labels), 1),
        "labels an image": len(labels) / max(len(truth), 1),
    }


def _iou(a: Mask, b: Mask) -> float:
    from zutis_model.refinement.mask_statistics import intersection_over_union

    return intersection_over_union(a, b)


def _ap50(
    labels: Sequence[ObjectLabel],
    truth: Mapping[str, Sequence[TrueObject]],
    vocabulary: Sequence[str],
) -> float:
    from zutis_model.scores.coco import evaluate_instances

    numbers = {file: number for number, file in enumerate(truth, start=1)}
    category_ids = {name: number for number, name in enumerate(vocabulary, start=1)}
    sizes = {label.file: label.mask.shape for label in labels}
    sizes |= {file: things[0].mask.shape for file, things in truth.items() if things}
    annotations = [
        {
            "image_id": numbers[file],
            "category_id": category_ids[name],
            "segmentation": _run_lengths(thing.mask),
            "area": int(thing.mask.sum()),
        }
        for file, things in truth.items()
        for thing in things
        if (name := category_of(thing, vocabulary)) is not None
    ]
    predictions = [
        {
            "image_id": numbers[label.file],
            "category_id": category_ids[label.category],
            "segmentation": _run_lengths(label.mask),
            "score": label.score,
        }
        for label in labels
    ]
    images = [
        {"id": numbers[file], "height": size[0], "width": size[1]} for file, size in sizes.items()
    ]
    return evaluate_instances(images, annotations, predictions, len(vocabulary)).scores().ap50


def _run_lengths(mask: Mask) -> dict[str, Any]:
    import numpy as np
    from pycocotools import mask as coco_mask

    return dict(coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)))


def retrieved_files(built: Build) -> dict[str, str]:
    """File names of the images that a category keeps, by image_id."""
    from storage.images.records import read_parquet
    from tasks.stage.layout import RETRIEVAL, RETRIEVED_IMAGES

    with built.retrieval.open(RETRIEVED_IMAGES) as file:
        rows = read_parquet(file, ["image_id", "uri"]).to_pylist()
    with built.retrieval.open(RETRIEVAL) as file:
        table = read_parquet(file, ["image_id", "kept"])
    kept = set(table.filter(table["kept"])["image_id"].to_pylist())
    return {
        row["image_id"]: PurePosixPath(row["uri"]).name for row in rows if row["image_id"] in kept
    }


def labels_of(built: Build) -> list[ObjectLabel]:
    """Every label of a build's data set."""
    import json

    from storage.images.records import read_parquet
    from storage.shards.samples import ShardSamples
    from tasks.stage.layout import RETRIEVAL

    files = retrieved_files(built)
    with built.retrieval.open(RETRIEVAL) as file:
        rows = read_parquet(file, ["image_id", "category_id", "probability"]).to_pylist()
    likely = {(row["image_id"], row["category_id"]): row["probability"] for row in rows}
    samples = ShardSamples.open(built.dataset)
    labels = []
    for at in range(len(samples)):
        stored, image_id = samples.read(at), samples.key(at)
        listed = json.loads(stored.facts).get("objects")
        for place, number in samples.objects.of_sample(at):
            named = listed[place]["name_probability"] if listed else likely[image_id, number]
            labels.append(
                ObjectLabel(
                    file=files[image_id],
                    category=samples.categories[number],
                    mask=samples.decode_object(at, stored, place if listed else None),
                    score=float(named),
                )
            )
    return labels


def compare(seed: int, images: int, per_category: int, mask_size: int) -> dict[str, dict[str, Any]]:
    """The scores of `one` and `many` on one world."""
    from flows.execution.executors import LocalExecutor
    from flows.pipelines.build import build
    from flows.settings.options import changed
    from made_world.corpus import read_corpus_ground_truth
    from made_world.things.kinds import KINDS
    from storage.artifacts.store import ArtifactStore

    with tempfile.TemporaryDirectory() as name:
        settings = hard_world(Path(name), seed, images, per_category)
        truth = read_corpus_ground_truth(Path(name)).things
        found: dict[str, dict[str, Any]] = {}
        for objects in ("one", "many"):
            wanted = changed(settings, objects=objects, mask_size=mask_size)
            built = build(wanted, LocalExecutor(ArtifactStore(wanted.store)))
            shown = {file: truth[file] for file in sorted(retrieved_files(built).values())}
            found[objects] = scores_of(labels_of(built), shown, KINDS)
    return found


def measure(seeds: Sequence[int], images: int, per_category: int, mask_size: int) -> Report:
    """The scores of both builds on each seed's world, and the ratios of their means."""
    load = load_average()
    samples: dict[str, Any] = {}
    for seed in seeds:
        samples[f"seed {seed}"] = found = {
            objects: {name: round(value, 4) for name, value in scores.items()}
            for objects, scores in compare(seed, images, per_category, mask_size).items()
        }
        print(f"seed {seed}: {found}", flush=True)
    means = {
        (objects, name): mean(one[objects][name] for one in samples.values())
        for objects in ("one", "many")
        for name in next(iter(samples.values()))[objects]
    }
    bounds = {("many", "precision"): LEAST_PRECISION}
    figures = [
        Figure(
            f"{name}, {objects}",
            value,
            "labels" if name == "labels an image" else "0..1",
            at_least=bounds.get((objects, name)),
        )
        for (objects, name), value in means.items()
    ]
    for name, least in (("recall", LEAST_RECALL_RATIO), ("AP50", LEAST_AP_RATIO)):
        ratio = means["many", name] / max(means["one", name], 1e-9)
        figures.append(Figure(f"{name}, many over one", ratio, "x", at_least=least))
    return Report(
        benchmark="label_objects",
        sizes={
            "images": images,
            "per_category": per_category,
            "mask_size": mask_size,
            "seeds": list(seeds),
        },
        figures=figures,
        samples=samples,
        load=load,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argument_parser(__doc__)
    parser.add_argument("--images", type=int, default=600, help="(default: %(default)s)")
    parser.add_argument("--per-category", type=int, default=48, help="(default: %(default)s)")
    parser.add_argument("--mask-size", type=int, default=336, help="(default: %(default)s)")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=list(HELD_OUT_SEEDS), help="(default: %(default)s)"
    )
    return parser


def main() -> None:
    options = _parser().parse_args()
    use_cores(options.threads)
    publish(
        measure(options.seeds, options.images, options.per_category, options.mask_size),
        options.out,
    )


if __name__ == "__main__":
    main()
