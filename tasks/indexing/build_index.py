"""The stage `build_index`: a table of all distinct images and their rows in the embedding parts.

Removed files and duplicates (equal bytes) are left out here. The exact index has no vectors of its
own: a search streams the embedding parts. An approximate index is a FAISS file beside the same
table of images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore, Attempt
from storage.corpora.listing import EXCLUDED
from storage.errors.exceptions import ConfigError, CorpusError
from storage.errors.reject_reasons import TRANSIENT
from storage.errors.sentences import counted_kinds
from storage.images.records import read_parquet, write_parquet
from tasks.indexing.elongated import is_elongated
from tasks.indexing.index_rows import IndexRows
from tasks.stage.contract import Progress
from tasks.stage.layout import CROPS, ENTRIES, FAISS_FILE, INDEX_IMAGES, RECORDS, REJECTS

NAME = "build_index"
VERSION = 1
EXACT = "exact"
_TRAINING_ROWS = 262_144
_RECALL_QUERIES = 64
_RECALL_K = 100


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the index.

    Attributes:
        index: `exact`, or a FAISS factory string.
        index_search: FAISS search parameters of an approximate index, such as `nprobe=16`.
        seed: decides the training sample and FAISS's clustering.
    """

    index: str = EXACT
    index_search: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.index_search and self.index == EXACT:
            raise ConfigError(
                f"index_search is {self.index_search!r}, but an exact index takes no search "
                "parameters: leave it out, or name an approximate --index."
            )


@dataclass(frozen=True)
class EmbeddedPart:
    """A part of a plan, the artifact of its embeddings, and that of its extra crops if any."""

    plan: ArtifactRef
    part: int
    embedded: ArtifactRef
    crops: ArtifactRef | None = None


@dataclass(frozen=True)
class Inputs:
    """All parts of all sources, in order."""

    parts: tuple[EmbeddedPart, ...] = field(default_factory=tuple)


def _recipe(config: Config, inputs: Inputs) -> Recipe:
    settings = (
        {"index": EXACT}
        if config.index == EXACT
        else {"index": config.index, "index_search": config.index_search, "seed": config.seed}
    )
    return Recipe(
        stage=NAME,
        version=VERSION,
        config=settings,
        inputs={
            "plans": list(dict.fromkeys(part.plan.key for part in inputs.parts)),
            "parts": [part.embedded.key for part in inputs.parts],
            **({"crops": crops} if (crops := _crop_keys(inputs)) else {}),
        },
    )


def _crop_keys(inputs: Inputs) -> list[str]:
    return [part.crops.key for part in inputs.parts if part.crops]


def locate(config: Config, inputs: Inputs, store: ArtifactStore) -> ArtifactRef:
    return ArtifactRef(NAME, _recipe(config, inputs).key())


def run(config: Config, inputs: Inputs, store: ArtifactStore, progress: Progress) -> Artifact:
    """Publish `images.parquet` (image_id, part, row; a row's number is its position) and, for an
    approximate index, `index.faiss` with its measured recall in the counts. The counts also give
    the number of images beyond 1.5 : 1 (`elongated`), whose ends CLIP's centre crop cuts off.

    Rows of extra crops follow those of the images, in further parts; in such an index the column
    `image` has the position of the image that a row belongs to.

    Raises:
        CorpusError: no image of the corpus can be used.
    """
    images, counts = _images_of(inputs, store, progress)
    if not images.num_rows:
        raise CorpusError(_nothing_usable(counts, _ignored(inputs, store)))
    parts = [store.get(part.embedded) for part in inputs.parts]
    crops = [(n, store.get(part.crops)) for n, part in enumerate(inputs.parts) if part.crops]
    if crops:
        images, counts["crops"] = _with_crops(images, len(parts), crops)
        parts += [artifact for _, artifact in crops]
    ref = locate(config, inputs, store)
    with store.attempt(ref) as attempt:
        with attempt.create(INDEX_IMAGES) as file:
            write_parquet(images, file)
        if config.index != EXACT:
            counts |= _write_approximate(config, IndexRows(images, parts), attempt)
        return store.publish(attempt, _recipe(config, inputs), counts=counts)


def _write_approximate(config: Config, rows: IndexRows, attempt: Attempt) -> dict[str, object]:
    """Build the FAISS file and measure its recall with queries near the index's own rows."""
    from storage.embeddings import faiss_index
    from storage.embeddings.exact_search import exact_search

    sample = rows.sample(_TRAINING_ROWS, config.seed)
    dimension = sample.shape[1]
    index = faiss_index.build(config.index, dimension, sample, rows.blocks(), seed=config.seed)
    attempt.create_from_local_writer(FAISS_FILE, lambda path: faiss_index.write(index, path))
    k = min(_RECALL_K, len(rows))
    queries = sample[:_RECALL_QUERIES]
    _, found = faiss_index.search(index, queries, k, config.index_search)
    _, exact = exact_search(rows.blocks(), queries, k, fetch=rows.fetch)
    return {"recall_k": k, "recall": round(faiss_index.recall(found, exact), 4)}


def _images_of(
    inputs: Inputs, store: ArtifactStore, progress: Progress
) -> tuple[pa.Table, dict[str, object]]:
    tables: list[pa.Table] = []
    rejects: Counter[str] = Counter()
    removed_of = _RemovedUris(store)
    for number, part in enumerate(inputs.parts):
        embedded = store.get(part.embedded)
        removed = removed_of(part)
        records = _present_rows(embedded, RECORDS, ["image_id", "height", "width"], removed)
        tables.append(
            pa.table(
                {
                    "image_id": records["image_id"],
                    "part": pa.array(np.full(records.num_rows, number, np.int32)),
                    "row": records["row"],
                    "elongated": is_elongated(
                        records["height"].to_numpy(), records["width"].to_numpy()
                    ),
                }
            )
        )
        rejects.update(
            _present_rows(embedded, REJECTS, ["reject_reason"], removed)[
                "reject_reason"
            ].to_pylist()
        )
        progress.advance(records.num_rows)
    rows = pa.concat_tables(tables) if tables else pa.table({"image_id": pa.array([], pa.string())})
    unique = _first_of_each(rows)
    counts: dict[str, object] = {
        "images": unique.num_rows,
        "duplicates": rows.num_rows - unique.num_rows,
        "rejects": dict(sorted(rejects.items())),
    }
    if not unique.num_rows:
        return unique, counts
    if elongated := pc.sum(unique["elongated"]).as_py():
        counts["elongated"] = elongated
    return unique.drop_columns(["elongated"]), counts


def _with_crops(
    images: pa.Table, parts: int, crops: Sequence[tuple[int, Artifact]]
) -> tuple[pa.Table, int]:
    """The images' rows followed by those of their crops, and the number of the latter.

    Crops of images that were removed, or that the index has from another part, are left out.

    Args:
        images: image_id, part, row; parts: how many artifacts its `part` counts.
        crops: artifacts of `embed_crops` with the number of the part that each belongs to.
    """
    part_of = images["part"].to_numpy()
    starts = np.searchsorted(part_of, np.arange(parts + 1))
    tables = [images.append_column("image", pa.array(np.arange(images.num_rows, dtype=np.int64)))]
    for number, (part, artifact) in enumerate(crops, start=parts):
        with artifact.open(CROPS) as file:
            ids = read_parquet(file, columns=["image_id"])["image_id"]
        here = images["image_id"].slice(starts[part], starts[part + 1] - starts[part])
        place = pc.index_in(ids, value_set=here.combine_chunks())
        row = np.flatnonzero(pc.is_valid(place).to_numpy(zero_copy_only=False))
        tables.append(
            pa.table(
                {
                    "image_id": ids.take(pa.array(row)),
                    "part": pa.array(np.full(len(row), number, np.int32)),
                    "row": pa.array(row.astype(np.int32)),
                    "image": pa.array(place.drop_null().to_numpy().astype(np.int64) + starts[part]),
                }
            )
        )
    rows = pa.concat_tables(tables)
    return rows, rows.num_rows - images.num_rows


class _RemovedUris:
    """The URIs of a part's entries that are no longer in the corpus; plans are read once."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._tables: dict[ArtifactRef, pa.Table] = {}

    def __call__(self, part: EmbeddedPart) -> pa.Array:
        if part.plan not in self._tables:
            with self._store.get(part.plan).open(ENTRIES) as file:
                entries = read_parquet(file, columns=["uri", "part", "present"])
            self._tables[part.plan] = entries.filter(pc.invert(entries["present"]))
        gone = self._tables[part.plan]
        return gone.filter(pc.equal(gone["part"], part.part))["uri"].combine_chunks()


def _present_rows(
    embedded: Artifact, name: str, columns: Sequence[str], removed: pa.Array
) -> pa.Table:
    with embedded.open(name) as file:
        table = read_parquet(file, columns=[*columns, "uri"])
    table = table.append_column("row", pa.array(np.arange(table.num_rows, dtype=np.int32)))
    return table.filter(pc.invert(pc.is_in(table["uri"], value_set=removed)))


def _first_of_each(rows: pa.Table) -> pa.Table:
    """The first row of every image_id, in the order of the rows."""
    if not rows.num_rows:
        return rows
    # In one array, whose 32-bit offsets 33 million ids would overflow.
    ids = pc.cast(rows["image_id"], pa.large_string()).combine_chunks()
    dictionary = ids.dictionary_encode()
    _, first = np.unique(dictionary.indices.to_numpy(), return_index=True)
    return rows if len(first) == rows.num_rows else rows.take(pa.array(np.sort(first)))


def _ignored(inputs: Inputs, store: ArtifactStore) -> Counter[str]:
    """Files in tars that are no images or are excluded, by kind."""
    ignored: Counter[str] = Counter()
    for part in inputs.parts:
        ignored.update(store.get(part.embedded).counts.get("ignored", {}))
    return ignored


def _nothing_usable(counts: dict[str, object], ignored: Counter[str]) -> str:
    rejects = counts["rejects"]
    assert isinstance(rejects, dict)
    others = f" (but {counted_kinds(ignored)})" if ignored else ""
    if EXCLUDED in ignored and not rejects:
        return (
            f"--include and --exclude leave no image of the corpus ({counted_kinds(ignored)}): in "
            "tars, patterns match the names of members; change the patterns."
        )
    if not rejects:
        return (
            f"The corpus holds no image{others}: give --corpus a folder, tars or a table with "
            "images."
        )
    reasons = ", ".join(f"{count} {reason}" for reason, count in rejects.items())
    advice = "check the files that --corpus names."
    if TRANSIENT & rejects.keys():
        advice = "run the same command again once the web server sends them."
    return (
        f"None of the {sum(rejects.values())} images of the corpus can be used ({reasons}): "
        f"{advice}"
    )
