"""Time, memory and size of the page on a build with 40,000 labels.

The artifacts of a build are published as the stages make them, with made records; nothing is
embedded or masked. The shards' index names samples of one small tar, again and again: what is read
of a sample, and how its picture is drawn, does not depend on that. The page is written in a process
of its own.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from storage.artifacts.store import Artifact, ArtifactStore

_MOST_SECONDS, _MOST_MEMORY_MB, _MOST_MB = 60.0, 1_000.0, 20.0
_STORED = 200
_HEIGHT, _WIDTH = 480, 640
_CLOSE = 0.1  # share of images that two categories want
_LEFT_OUT = 0.05  # share of labels below the least quality


def measure(labels: int, categories: int, threads: int) -> Report:
    """Make the artifacts, and write the page on them in another process."""
    load = load_average()
    with tempfile.TemporaryDirectory() as folder:
        in_fresh_process(make_build, folder, labels, categories)
        seconds, megabytes, size = in_fresh_process(write_page, folder, threads)
    return Report(
        benchmark="report",
        sizes={"labels": labels, "categories": categories, "threads": threads},
        figures=[
            Figure("time", seconds["wall"], "s", limit=_MOST_SECONDS),
            Figure("time of processors", seconds["cpu"], "s"),
            Figure("peak memory", megabytes, "MB", limit=_MOST_MEMORY_MB),
            Figure("page", size / 1e6, "MB", limit=_MOST_MB),
        ],
        samples={},
        load=load,
    )


def write_page(folder: str, threads: int) -> tuple[dict[str, float], float, int]:
    """Seconds, peak memory in MB, and the page's bytes; imports are counted, too."""
    use_cores(threads)
    watch = Stopwatch()
    with watch:
        from flows.builds.found import find_build
        from flows.reports.report import write_report
        from storage.artifacts.store import ArtifactStore

        place = write_report(find_build(ArtifactStore(folder)))
    return watch.seconds(), peak_memory_mb(), Path(place).stat().st_size


def make_build(folder: str, labels: int, categories: int) -> None:
    """Publish the artifacts of a build."""
    import numpy as np

    from storage.artifacts.store import ArtifactStore

    store, rng = ArtifactStore(folder), np.random.default_rng(0)
    ids = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(labels)]
    names = [f"category {number:04d}" for number in range(1, categories + 1)]
    category = np.sort(rng.integers(1, categories + 1, labels))
    quality = rng.uniform(0.2, 1, labels)
    counts = {"images": 2 * labels, "duplicates": 10, "rejects": {}}
    index = _published(store, "build_index", counts)
    retrieval = _retrieval(store, index, ids, category, names, rng)
    masks = _masks(store, ids)
    chosen = _chosen(store, ids, category, names, quality)
    plan = _plan(store, retrieval, ids, category, names, quality)
    dataset = _dataset(store, plan, ids, category, names, rng)
    evidence = _evidence(store, names)
    _published(
        store, "record_build", {"samples": labels},
        inputs={
            "index": index.key, "retrieval": retrieval.key, "shard_plan": plan.key,
            "dataset": dataset.key, "others": [str(masks.ref)],
            "beside": [str(chosen.ref), str(evidence.ref)],
        },
        notes={"weights": "none", "corpus": ["made records"]},
    )  # fmt: skip


def _published(
    store: ArtifactStore,
    stage: str,
    counts: dict[str, Any],
    tables: dict[str, pa.Table] | None = None,
    files: dict[str, bytes] | None = None,
    inputs: dict[str, Any] | None = None,
    notes: dict[str, Any] | None = None,
) -> Artifact:
    from storage.artifacts.fingerprints import Recipe
    from storage.artifacts.store import ArtifactRef
    from storage.images.records import write_parquet

    recipe = Recipe(stage=stage, version=1, config={"name": "made"}, inputs=inputs or {})
    with store.attempt(ArtifactRef(stage, recipe.key())) as attempt:
        for name, table in (tables or {}).items():
            with attempt.create(name) as file:
                write_parquet(table, file)
        for name, content in (files or {}).items():
            with attempt.create(name) as file:
                file.write(content)
        return store.publish(attempt, recipe, counts=counts, notes=notes)


def _retrieval(
    store: ArtifactStore,
    index: Artifact,
    ids: list[str],
    category: np.ndarray,
    names: list[str],
    rng: np.random.Generator,
) -> Artifact:
    """Each image is retrieved for its category, and some for another one, too."""
    import numpy as np
    import pyarrow as pa

    from tasks.stage.layout import RETRIEVAL, RETRIEVED_IMAGES

    close = np.flatnonzero(rng.uniform(size=len(ids)) < _CLOSE)
    other = category[close] % len(names) + 1
    kept = np.r_[np.ones(len(ids), bool), np.zeros(len(close), bool)]
    numbers = np.r_[category, other]
    rows = pa.table({
        "category_id": numbers.astype(np.int32),
        "category": [names[number - 1] for number in numbers],
        "rank": np.r_[np.arange(1, len(ids) + 1), close + 1].astype(np.int32),
        "image_id": [*ids, *(ids[at] for at in close)],
        "probability": rng.uniform(0.4, 1, len(numbers)),
        "margin": rng.uniform(0, 1, len(numbers)),
        "kept": kept,
        "reason": np.where(kept, "", "more_probable_elsewhere").tolist(),
    })  # fmt: skip
    images = pa.table({
        "image_id": ids,
        "uri": [f"/photographs/{number:06d}.jpg" for number in range(len(ids))],
        "member": [""] * len(ids), "offset": [-1] * len(ids), "length": [-1] * len(ids),
    })  # fmt: skip
    return _published(
        store, "retrieve", {"rows": rows.num_rows, "images": len(ids)},
        {RETRIEVAL: rows, RETRIEVED_IMAGES: images},
        inputs={"index": index.key}, notes={"not_found": []},
    )  # fmt: skip


def _masks(store: ArtifactStore, ids: list[str]) -> Artifact:
    import pyarrow as pa

    from tasks.stage.layout import MASKS

    counts = _ellipse_counts()
    table = pa.table({
        "image_id": ids, "height": [_HEIGHT] * len(ids), "width": [_WIDTH] * len(ids),
        "counts": [counts] * len(ids),
        "reject_reason": ["blank_mask" if at % 50 == 0 else "" for at in range(len(ids))],
    })  # fmt: skip
    return _published(store, "make_masks", {"masks": len(ids)}, {MASKS: table})


def _chosen(
    store: ArtifactStore,
    ids: list[str],
    category: np.ndarray,
    names: list[str],
    quality: np.ndarray,
) -> Artifact:
    import numpy as np
    import pyarrow as pa

    from tasks.stage.layout import CHOSEN_LABELS

    kept = quality >= np.quantile(quality, _LEFT_OUT)
    table = pa.table({
        "image_id": ids, "category": [names[number - 1] for number in category],
        "quality": quality, "kept": kept,
        "reason": np.where(kept, "", "below_min_quality").tolist(),
    })  # fmt: skip
    counts = {"labels": len(ids), "kept": int(kept.sum()),
              "left_out": {"below_min_quality": int((~kept).sum())}}  # fmt: skip
    return _published(store, "choose_labels", counts, {CHOSEN_LABELS: table})


def _plan(
    store: ArtifactStore,
    retrieval: Artifact,
    ids: list[str],
    category: np.ndarray,
    names: list[str],
    quality: np.ndarray,
) -> Artifact:
    import numpy as np
    import pyarrow as pa

    from tasks.stage.layout import SAMPLES

    kind = pa.struct([
        ("category_id", pa.int32()), ("rank", pa.int32()), ("score", pa.float32()),
        ("quality", pa.float32()),
    ])  # fmt: skip
    labels = [
        [{"category_id": int(number), "rank": at + 1, "score": 0.3, "quality": float(how)}]
        for at, (number, how) in enumerate(zip(category, quality, strict=True))
    ]
    table = pa.table({"image_id": ids, "labels": pa.array(labels, pa.list_(kind))})
    numbers = np.bincount(category, minlength=len(names) + 1)
    rows = [
        {"category_id": at, "name": name, "retrieved": int(numbers[at]), "kept": int(numbers[at]),
         "dropped": 0, "masked": int(numbers[at])}
        for at, name in enumerate(names, start=1)
    ]  # fmt: skip
    return _published(
        store, "plan_shards",
        {"samples": len(ids), "rejects": {"blank_mask": len(ids) // 50}, "categories": rows},
        {SAMPLES: table}, inputs={"retrieval": retrieval.key},
    )  # fmt: skip


def _dataset(
    store: ArtifactStore,
    plan: Artifact,
    ids: list[str],
    category: np.ndarray,
    names: list[str],
    rng: np.random.Generator,
) -> Artifact:
    """One tar of few samples, and an index that names them for all."""
    import json

    import numpy as np
    import pyarrow as pa

    from storage.shards.writing import Sample, ShardWriter
    from tasks.stage.layout import SHARD_INDEX, VOCABULARY

    tar = io.BytesIO()
    writer = ShardWriter(tar, len(names))
    mask = np.zeros((_HEIGHT, _WIDTH), bool)
    facts = {"mask": {"size": [_HEIGHT, _WIDTH], "counts": _ellipse_counts()}}
    for at in range(_STORED):
        writer.write(Sample(f"{at:06d}", _photograph(rng), mask, 1, facts))
    stored = writer.close()
    index = stored.take(rng.integers(0, _STORED, len(ids)))
    index = index.set_column(0, "key", pa.array(ids))
    index = index.set_column(1, "label", pa.array(category.astype(np.int32)))
    index = index.add_column(0, "shard", pa.array(["made-000000.tar"] * len(ids)))
    rows = [{"category_id": at, "name": name} for at, name in enumerate(names, start=1)]
    return _published(
        store, "assemble_dataset", {"shards": 1, "samples": len(ids)}, {SHARD_INDEX: index},
        {"made-000000.tar": tar.getvalue(), VOCABULARY: json.dumps(rows).encode()},
        inputs={"plan": plan.key}, notes={"untrained": False, "decode_alike": 0},
    )  # fmt: skip


def _evidence(store: ArtifactStore, names: list[str]) -> Artifact:
    import pyarrow as pa

    from tasks.stage.layout import EVIDENCE

    rows = [
        {"category_id": at, "category": name, "images": 3, "thin": at % 10 == 0,
         "best": [{"uri": "/photographs/000000.jpg"}],
         "other_sense": [{"uri": "/photographs/000001.jpg"}] if at == 1 else [],
         "rivals": [{"category_id": 1, "category": names[0], "shared": 0.1}]}
        for at, name in enumerate(names, start=1)
    ]  # fmt: skip
    return _published(store, "estimate_evidence", {}, {EVIDENCE: pa.Table.from_pylist(rows)})


def _ellipse_counts() -> str:
    """COCO's run lengths of an ellipse."""
    import numpy as np

    from storage.images.masks import run_lengths

    y, x = np.ogrid[-1 : 1 : _HEIGHT * 1j, -1 : 1 : _WIDTH * 1j]
    return str(run_lengths((y / 0.6) ** 2 + (x / 0.4) ** 2 < 1)["counts"])


def _photograph(rng: np.random.Generator) -> bytes:
    """A JPEG about as hard to compress as a photograph."""
    import numpy as np
    from PIL import Image

    coarse = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((_WIDTH, _HEIGHT), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--labels", type=int, default=40_000, help="default: %(default)s")
    parser.add_argument("--categories", type=int, default=1_000, help="default: %(default)s")
    arguments = parser.parse_args()
    report = measure(arguments.labels, arguments.categories, arguments.threads)
    publish(report, arguments.out)


if __name__ == "__main__":
    main()
