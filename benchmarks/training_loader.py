"""Training samples against the reference's way of making them: one thread, the same draws.

A data set is made of real photographs, in shards as the pipeline writes them: coco128, each with
its largest annotated object for a mask, or other photographs (`--photographs`) with an ellipse.
Samples of the published recipe are then made from it twice, in turns in one process: by ours,
reading from the shards, and by the reference's order of operations, from the same bytes in memory.
Their images and labels are compared; results that don't agree end the benchmark with an error.
The decoding in ours is measured separately, on the same draws.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
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
    import numpy as np

    from benchmarks.reference.training_samples import StoredSample
    from storage.shards.writing import Sample
    from tasks.training.samples import TrainingSamples

_LEAST_TIMES_FASTER = 4.0
# Of normalised values, about a fiftieth of an image's spread. Where scales are small, pixels come
# from a JPEG decoder that has scaled, and jitter may enlarge the difference.
_MOST_IMAGE_DIFFERENCE = 0.05
_SHARD_SAMPLES = 50


@dataclass
class Samples:
    """Milliseconds a pasted image, of every turn."""

    reference: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    decoding: list[float] = field(default_factory=list)


def make_samples(paths: Sequence[Path]) -> tuple[list[Sample], dict[int, str]]:
    """Every photograph that has an object, with its mask; and the categories' names."""
    annotated = _annotated(paths)
    samples = []
    for number, path in enumerate(paths):
        mask, label = annotated[path.name] if annotated else (_ellipse(path), 1)
        if mask is not None and mask.any():
            samples.append(_sample(f"{number:06d}", path, mask, label))
    labels = sorted({sample.label for sample in samples})
    return samples, {label: f"category {label}" for label in range(1, labels[-1] + 1)}


def write_data_set(folder: Path, samples: Sequence[Sample], categories: dict[int, str]) -> None:
    """Shards, index and vocabulary as `assemble_dataset` publishes them."""
    import pyarrow as pa

    from storage.images.records import write_parquet
    from storage.shards.writing import ShardWriter

    tables = []
    for start in range(0, len(samples), _SHARD_SAMPLES):
        name = f"photographs-{start // _SHARD_SAMPLES:06d}.tar"
        with (folder / name).open("wb") as file:
            writer = ShardWriter(file, max(categories))
            for sample in samples[start : start + _SHARD_SAMPLES]:
                writer.write(sample)
            table = writer.close()
        names = pa.array([name] * table.num_rows, pa.string())
        tables.append(table.add_column(0, "shard", names))
    write_parquet(pa.concat_tables(tables), folder / "index.parquet")
    rows = [{"category_id": number, "name": name} for number, name in categories.items()]
    (folder / "vocabulary.json").write_text(json.dumps(rows))


def _annotated(paths: Sequence[Path]) -> dict[str, tuple[np.ndarray | None, int]]:
    """Mask and category_id of each photograph's largest object; empty without annotations."""
    found = [folder / "annotations" / "instances.json" for folder in paths[0].parents[:4]]
    file = next((file for file in found if file.exists()), None)
    if file is None:
        return {}
    content = json.loads(file.read_text())
    labels = {row["id"]: label for label, row in enumerate(content["categories"], start=1)}
    names = {row["id"]: row for row in content["images"]}
    largest: dict[str, tuple[np.ndarray | None, int]] = {path.name: (None, 0) for path in paths}
    areas: dict[str, float] = {}
    for row in content["annotations"]:
        image = names[row["image_id"]]
        name = Path(image["file_name"]).name
        if name in largest and row["area"] > areas.get(name, 0):
            areas[name] = row["area"]
            largest[name] = _mask(row, image), labels[row["category_id"]]
    return largest


def _mask(annotation: dict[str, Any], image: dict[str, Any]) -> np.ndarray:
    """bool [h, w] of a COCO annotation: polygons, or RLE with or without compression."""
    from pycocotools import mask as coco

    height, width, shape = image["height"], image["width"], annotation["segmentation"]
    if isinstance(shape, list):
        shape = coco.merge(coco.frPyObjects(shape, height, width))
    elif isinstance(shape["counts"], list):
        shape = coco.frPyObjects(shape, height, width)
    return coco.decode(shape).astype(bool)


def _ellipse(path: Path) -> np.ndarray:
    """An object of the usual size: half of the photograph's sides."""
    import numpy as np
    from PIL import Image

    with Image.open(path) as image:
        width, height = image.size
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return x**2 + y**2 < 0.25


def _sample(key: str, path: Path, mask: np.ndarray, label: int) -> Sample:
    import numpy as np
    from PIL import Image
    from pycocotools.mask import encode

    from storage.shards.writing import Sample, encode_jpeg

    data = path.read_bytes()
    with Image.open(path) as image:
        if image.format != "JPEG":
            data = encode_jpeg(image.convert("RGB"))
    rle = encode(np.asfortranarray(mask, dtype=np.uint8))
    facts = {"mask": {"size": rle["size"], "counts": rle["counts"].decode()}}
    return Sample(key, data, mask, label, {"image_id": key, **facts})


def stored_samples(samples: Sequence[Sample]) -> list[StoredSample]:
    """The baseline's input, in the order of the data set."""
    import numpy as np
    from pycocotools import mask as coco

    from benchmarks.reference.training_samples import StoredSample

    return [
        StoredSample(sample.jpeg, coco.encode(np.asfortranarray(sample.mask, dtype=np.uint8)))
        for sample in samples
    ]


def check_agreement(ours: TrainingSamples, stored: Sequence[StoredSample], count: int) -> float:
    """Mean absolute difference of normalised values, over `count` samples; labels must be equal."""
    import torch

    from benchmarks.reference.training_samples import make_sample

    differences = []
    for i in range(count):
        sample, expected = ours[i], make_sample(stored, ours.draws(i), ours.recipe.crop)
        if not torch.equal(sample.instances, expected.instances) or not torch.equal(
            sample.semantic.to(torch.int64), expected.semantic
        ):
            raise SystemExit(f"The labels of sample {i} differ from the baseline's.")
        differences.append((sample.image - expected.image).abs().mean().item())
    mean = sum(differences) / count
    if not mean <= _MOST_IMAGE_DIFFERENCE:
        raise SystemExit(f"Images differ from the baseline's by {mean:g} on average.")
    return mean


def decode_only(ours: TrainingSamples, i: int) -> None:
    """Read and decode the images of sample `i`, at the scale that it needs."""
    shards = ours.shards
    for draw in ours.draws(i):
        stored = shards.read(draw.index)
        shards.decode_object(draw.index, stored)
        least = (
            max(int(shards.heights[draw.index] * draw.scale), 1),
            max(int(shards.widths[draw.index] * draw.scale), 1),
        )
        shards.decode_image(draw.index, stored.jpeg, least=least)


def measure_in_turns(
    ours: TrainingSamples, stored: Sequence[StoredSample], rounds: int, turn: int
) -> Samples:
    """`rounds` times: the same `turn` samples by the baseline, by ours, and decoded only."""
    from benchmarks.reference.training_samples import make_sample

    samples, crop = Samples(), ours.recipe.crop
    for number in range(rounds):
        chosen = range(number * turn, (number + 1) * turn)
        pasted = sum(len(ours.draws(i)) for i in chosen)
        samples.reference.append(
            _milliseconds(lambda i: make_sample(stored, ours.draws(i), crop), chosen) / pasted
        )
        samples.ours.append(_milliseconds(ours.__getitem__, chosen) / pasted)
        samples.decoding.append(_milliseconds(lambda i: decode_only(ours, i), chosen) / pasted)
        print(
            f"round {number + 1}: reference {samples.reference[-1]:.2f} ms, "
            f"ours {samples.ours[-1]:.2f} ms a pasted image",
            flush=True,
        )
    return samples


def _milliseconds(make: Callable[[int], object], chosen: range) -> float:
    with Stopwatch() as watch:
        for i in chosen:
            make(i)
    return 1e3 * watch.wall


def figures(samples: Samples, difference: float, objects: float) -> list[Figure]:
    reference, ours = median(samples.reference), median(samples.ours)
    ratio = median(a / b for a, b in zip(samples.reference, samples.ours, strict=True))
    return [
        Figure("reference, a pasted image", reference, "ms"),
        Figure("ours, a pasted image", ours, "ms"),
        Figure("reference / ours", ratio, "times", at_least=_LEAST_TIMES_FASTER),
        Figure("of ours, reading and decoding", median(samples.decoding), "ms"),
        Figure("reference, a worker", 1e3 / reference / objects, "samples/s"),
        Figure("ours, a worker", 1e3 / ours / objects, "samples/s"),
        Figure("objects a sample", objects, ""),
        Figure("mean difference of normalised values", difference, ""),
    ]


def main() -> None:
    parser = argument_parser(__doc__)
    parser.set_defaults(threads=1)
    photographs.add_option(parser)
    parser.add_argument("--rounds", type=int, default=7, help="turns of each (7)")
    parser.add_argument("--turn", type=int, default=24, help="samples a turn (24)")
    parser.add_argument("--compared", type=int, default=24, help="samples compared (24)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    use_cores(options.threads)
    load = load_average()
    import torch

    from storage.shards.samples import ShardSamples
    from tasks.training.samples import SampleRecipe, TrainingSamples

    torch.set_num_threads(options.threads)
    length = max(options.rounds * options.turn, options.compared)
    made, categories = make_samples(photographs.find(options.photographs))
    with tempfile.TemporaryDirectory() as folder:
        write_data_set(Path(folder), made, categories)
        shards = ShardSamples.open(Path(folder))
        ours = TrainingSamples(shards, SampleRecipe(), options.seed, length)
        stored = stored_samples(made)
        # Also the first, slower run of everything.
        difference = check_agreement(ours, stored, options.compared)
        samples = measure_in_turns(ours, stored, options.rounds, options.turn)
        objects = sum(len(ours.draws(i)) for i in range(length)) / length
    report = Report(
        benchmark="training_loader",
        sizes={
            "photographs": len(made),
            "crop": ours.recipe.crop,
            "threads": options.threads,
            "rounds": options.rounds,
            "samples a turn": options.turn,
        },
        figures=figures(samples, difference, objects),
        samples=vars(samples),
        load=load,
    )
    publish(report, options.out)


if __name__ == "__main__":
    main()
