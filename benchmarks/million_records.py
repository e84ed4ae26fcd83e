"""Memory and time of scanning, indexing and retrieving from a million records.

A table of a million addresses goes through the real scan. Another process then publishes artifacts
as `embed_images` makes of its parts, and `embed_text` of the categories, with random unit rows:
nothing is decoded and no model is loaded. This process indexes, searches and retrieves through the
real stages, and reports its peak memory after each step.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import pairwise
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

    from storage.artifacts.store import Artifact, ArtifactRef
    from tasks.indexing import embed_images
    from tasks.retrieval import embed_text

_MOST_MEMORY_MB = 2_000.0
_DIMENSIONS = 512
_CLIP = "ViT-B-32-quickgelu:random:0"  # the model that the random rows stand for
_ROWS_AT_ONCE = 65_536


def make_table(path: Path, records: int) -> None:
    """A corpus table of remote addresses, with size and etag as a bucket's inventory has them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("uri", pa.string()), ("size", pa.int64()), ("etag", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, records, _ROWS_AT_ONCE):
            numbers = range(start, min(start + _ROWS_AT_ONCE, records))
            rows = {
                # fsspec's memory:// needs no package and no network; nothing is read from it.
                "uri": [f"memory://photographs/{n // 1000:06d}/{n:09d}.jpg" for n in numbers],
                "size": [150_000 + n % 1000 for n in numbers],
                "etag": [f"{n:032x}" for n in numbers],
            }
            writer.write_table(pa.table(rows, schema))


def publish_made_inputs(root: str, plan: ArtifactRef, categories: int, seed: int) -> list[Any]:
    """Publish random rows for a plan's images and for categories; a `TextRow` for each category."""
    publish_embeddings(root, plan, seed)
    return publish_texts(root, categories, seed + 1)


def publish_embeddings(root: str, plan: ArtifactRef, seed: int) -> None:
    """Publish for every part of a plan an artifact as the embedding stage makes it."""
    import numpy as np

    from storage.artifacts.store import ArtifactStore
    from storage.images.records import read_parquet
    from tasks.stage.contract import PartOfPlan
    from tasks.stage.layout import ENTRIES

    store = ArtifactStore(root)
    generator = np.random.default_rng(seed)
    with store.get(plan).open(ENTRIES) as file:
        entries = read_parquet(file, columns=["uri", "size", "part"])
    part = entries["part"].to_numpy()
    bounds = np.searchsorted(part, np.arange(part[-1] + 2))
    for number, (start, end) in enumerate(pairwise(bounds)):
        records = _records(entries.slice(start, end - start))
        rows = _unit_rows(generator, records.num_rows).astype(np.float16)
        _publish_part(store, _embedding_config(), PartOfPlan(plan, number), records, rows)


def _embedding_config() -> embed_images.Config:
    from flows.settings.build import clip_model
    from tasks.indexing.embed_images import Config

    return Config(clip=clip_model(_CLIP, "cpu", "float32"))


def _text_config() -> embed_text.Config:
    from tasks.retrieval.embed_text import Config

    return Config(clip=_embedding_config().clip)


def _unit_rows(generator: np.random.Generator, count: int) -> np.ndarray:
    import numpy as np

    rows = generator.standard_normal((count, _DIMENSIONS), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _records(entries: pa.Table) -> pa.Table:
    """Accepted images of `RECORD_SCHEMA`; the address decides the image_id."""
    import pyarrow as pa

    from storage.images.records import RECORD_SCHEMA

    uris = entries["uri"].to_pylist()
    count = len(uris)
    return pa.table(
        {
            "image_id": [hashlib.sha256(uri.encode()).hexdigest() for uri in uris],
            "uri": uris,
            "member": [""] * count,
            "offset": [-1] * count,
            "length": entries["size"],
            "height": [480] * count,
            "width": [640] * count,
            "format": ["JPEG"] * count,
            "conversion": [""] * count,
            "reject_reason": [""] * count,
        },
        RECORD_SCHEMA,
    )


def _publish_part(
    store: Any, config: embed_images.Config, inputs: Any, records: pa.Table, rows: np.ndarray
) -> None:
    from storage.embeddings.parts import write_embeddings
    from storage.images.records import RECORD_SCHEMA, write_parquet
    from tasks.indexing import embed_images
    from tasks.stage.layout import EMBEDDINGS, RECORDS, REJECTS

    with store.attempt(embed_images.locate(config, inputs, store)) as attempt:
        with attempt.create(RECORDS) as file:
            write_parquet(records, file)
        with attempt.create(REJECTS) as file:
            write_parquet(RECORD_SCHEMA.empty_table(), file)
        with attempt.create(EMBEDDINGS) as file:
            write_embeddings(rows, file)
        counts = {"read": len(rows), "images": len(rows), "duplicates": 0, "rejects": {}}
        store.publish(
            attempt, config.recipe, inputs={"plan": inputs.plan.key},
            counts=counts | {"conversions": {}}, notes={"part": inputs.part},
        )  # fmt: skip


def publish_texts(root: str, categories: int, seed: int) -> list[Any]:
    """Publish random text rows for categories; returns a `TextRow` for each."""
    import numpy as np
    import pyarrow as pa

    from storage.artifacts.store import ArtifactStore
    from storage.embeddings.parts import write_embeddings
    from storage.images.records import write_parquet
    from tasks.retrieval import embed_text
    from tasks.retrieval.text_rows import TextRow
    from tasks.stage.layout import EMBEDDINGS, TEXTS

    store, config = ArtifactStore(root), _text_config()
    texts = tuple(embed_text.Text((f"a photo of a thing number {n}.",)) for n in range(categories))
    ids = [text.text_id for text in texts]
    with store.attempt(embed_text.locate(config, embed_text.Inputs(texts), store)) as attempt:
        with attempt.create(TEXTS) as file:
            prompts = [list(text.prompts) for text in texts]
            write_parquet(pa.table({"text_id": ids, "prompts": prompts}), file)
        with attempt.create(EMBEDDINGS) as file:
            write_embeddings(_unit_rows(np.random.default_rng(seed), categories), file)
        counts = {"texts": categories, "logit_scale": 100.0}
        made = store.publish(attempt, config.recipe, counts=counts)
    return [TextRow(text_id, made.key) for text_id in ids]


class Steps:
    """Seconds of every step of this process, and the peak of its memory when the step has ended."""

    def __init__(self) -> None:
        self.figures: list[Figure] = []

    def run(self, name: str, step: Callable[[], Any]) -> Any:
        with Stopwatch() as watch:
            result = step()
        print(f"{name}: {watch.wall:.1f} s, peak {peak_memory_mb():,.0f} MB", flush=True)
        self.figures.append(Figure(f"{name}, time", watch.wall, "s"))
        self.figures.append(Figure(f"{name}, peak so far", peak_memory_mb(), "MB"))
        return result


def measure(folder: Path, records: int, categories: int, k: int, seed: int) -> tuple[Steps, dict]:
    """Scan, index, search and retrieve; the figures, and the counts of the stages."""
    steps = Steps()
    steps.run("import", _import_stages)

    from storage.artifacts.store import ArtifactStore
    from tasks.indexing import scan
    from tasks.stage.contract import SilentProgress

    table, store = folder / "corpus.parquet", ArtifactStore(str(folder / "store"))
    in_fresh_process(make_table, table, records)
    plan = steps.run(
        "scan",
        lambda: scan.run(scan.Config(source=str(table)), scan.Inputs(), store, SilentProgress()),
    )
    texts = in_fresh_process(publish_made_inputs, store.root, plan.ref, categories, seed)
    index = steps.run("index", lambda: _index(plan))
    search = steps.run("search", lambda: _search(index, texts, k))
    found = steps.run("retrieve", lambda: _retrieve(index, texts, search))
    steps.run("scan again, nothing new", lambda: _scan_again(table, plan))
    assert index.counts["images"] == records, index.counts
    assert found.counts["rows"] == categories * k, found.counts
    return steps, {"index": index.counts, "retrieve": found.counts}


def _import_stages() -> None:
    """Import what the steps need, so that no step pays for it."""
    for module in (
        "storage.embeddings.exact_search",
        "tasks.indexing.scan",
        "tasks.retrieval.search_index",
        "tasks.retrieval.retrieve",
    ):
        import_module(module)


def _index(plan: Artifact) -> Artifact:
    from tasks.indexing import build_index, embed_images
    from tasks.stage.contract import SilentProgress

    config, store = _embedding_config(), plan.store
    parts = tuple(
        build_index.EmbeddedPart(part.plan, part.part, embed_images.locate(config, part, store))
        for part in _parts(plan)
    )
    inputs = build_index.Inputs(parts)
    return build_index.run(build_index.Config(), inputs, store, SilentProgress())


def _parts(plan: Artifact) -> Iterator[Any]:
    from tasks.stage.contract import PartOfPlan, plan_parts

    return (PartOfPlan(plan.ref, number) for number in range(len(plan_parts(plan))))


def _search(index: Artifact, texts: list[Any], k: int) -> Artifact:
    from tasks.retrieval import search_index
    from tasks.stage.contract import SilentProgress

    config = search_index.Config(k=k, texts_prefix=_text_config().recipe.prefix)
    inputs = search_index.Inputs(index.ref, tuple(texts))
    return search_index.run(config, inputs, index.store, SilentProgress())


def _retrieve(index: Artifact, texts: list[Any], search: Artifact) -> Artifact:
    from tasks.retrieval import retrieve
    from tasks.retrieval.category_queries import CategoryQuery
    from tasks.stage.contract import SilentProgress

    categories = tuple(
        CategoryQuery(number, f"thing {number}", text, search.key)
        for number, text in enumerate(texts, start=1)
    )
    inputs = retrieve.Inputs(index.ref, categories)
    return retrieve.run(retrieve.Config(), inputs, index.store, SilentProgress())


def _scan_again(table: Path, plan: Artifact) -> None:
    from tasks.indexing import scan
    from tasks.stage.contract import SilentProgress

    config = scan.Config(source=str(table))
    assert scan.run(config, scan.Inputs(), plan.store, SilentProgress()).key == plan.key


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--names", type=int, default=80)
    parser.add_argument("--k", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to put 1.5 GB for the time being")
    options = parser.parse_args()
    use_cores(options.threads)
    load = load_average()

    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        steps, counts = measure(Path(name), options.records, options.names, options.k, options.seed)
    peak = Figure("peak memory", peak_memory_mb(), "MB", _MOST_MEMORY_MB)
    report = Report(
        benchmark="million_records",
        sizes={
            "records": options.records,
            "dimensions": _DIMENSIONS,
            "names": options.names,
            "k": options.k,
            "threads": options.threads,
        },
        figures=[*steps.figures, peak],
        samples={"counts": counts},
        load=load,
    )
    publish(report, options.out)


if __name__ == "__main__":
    main()
