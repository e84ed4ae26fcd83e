"""The stage `import_duplicates`: groups that a file names, in place of finding them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.corpora.duplicate_groups import DuplicateGroups, read_groups
from storage.errors.exceptions import CorpusError
from storage.files.filesystems import display
from storage.images.records import read_parquet, write_parquet
from tasks.duplicates.groups import named_groups
from tasks.duplicates.settings import chosen_positions, keys_of
from tasks.indexing.index_rows import embedded_parts, load_index_rows
from tasks.stage.contract import Progress
from tasks.stage.layout import DUPLICATES, RECORDS

NAME = "import_duplicates"
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Config:
    """The file of the groups.

    Attributes:
        groups: its path or URI, see `storage.corpora.duplicate_groups`; not part of the key.
        digest: of its content, `DuplicateGroups.digest`.
    """

    groups: str
    digest: str


@dataclass(frozen=True)
class Inputs:
    """An index, and the retrieval to whose images the groups are restricted; None for no
    restriction."""

    index: ArtifactRef
    retrieval: ArtifactRef | None = None


def _recipe(config: Config, inputs: Inputs) -> Recipe:
    keys = keys_of(inputs.index, inputs.retrieval)
    return Recipe(stage=NAME, version=VERSION, config={"groups": config.digest}, inputs=keys)


def locate(config: Config, inputs: Inputs, store: ArtifactStore) -> ArtifactRef:
    return ArtifactRef(NAME, _recipe(config, inputs).key())


def run(config: Config, inputs: Inputs, store: ArtifactStore, progress: Progress) -> Artifact:
    """Publish `duplicates.parquet`, as `find_duplicates` does; what only a comparison can tell is
    null or empty.

    Files of equal bytes are one image, which is in the group of the one that comes first in the
    index. The counts give the images that the groups are restricted to, those that the file names
    (`named`) and of these those that are not in the index (`unknown`), the groups, and the
    `duplicates`: the images in groups beyond one of each.

    Raises:
        CorpusError: the file has changed meanwhile, can't be read, or names no image of the index.
        StorageError: it can't be read.
    """
    named = read_groups(config.groups)
    if named.digest != config.digest:
        raise CorpusError(
            f"{display(config.groups)} has changed since this run began: run the same command "
            "again."
        )
    index = store.get(inputs.index)
    found = dict[str, str]()
    known = 0
    for image_id, group in _groups_in(index, named, store):
        known += 1
        found.setdefault(image_id, group)
    if not found:
        raise CorpusError(
            f"None of the {len(named):,} images that {display(config.groups)} names is in the "
            "corpus: name them by image_id, or by their paths or addresses."
        )
    rows, image_ids = load_index_rows(index, store)
    ids = image_ids.slice(0, rows.images)
    positions = chosen_positions(ids, inputs.retrieval, store)
    chosen = set(ids.take(pa.array(positions)).to_pylist())
    table = named_groups({i: group for i, group in found.items() if i in chosen})
    progress.advance(len(chosen))
    groups = len(table["group"].unique())
    with store.attempt(locate(config, inputs, store)) as attempt:
        with attempt.create(DUPLICATES) as file:
            write_parquet(table, file)
        return store.publish(
            attempt, _recipe(config, inputs),
            counts={"images": len(chosen), "named": len(named), "unknown": len(named) - known,
                    "groups": groups, "duplicates": table.num_rows - groups},
        )  # fmt: skip


def _groups_in(
    index: Artifact, named: DuplicateGroups, store: ArtifactStore
) -> Iterator[tuple[str, str]]:
    """image_id and group of every image that is named and in the embedded parts of an index."""
    ids, uris = dict(named.by_id), dict(named.by_uri)
    for part in embedded_parts(index, store):
        if RECORDS not in part.files:  # those of crops
            continue
        with part.open(RECORDS) as file:
            records = read_parquet(file, columns=["image_id", "uri", "member"])
        files = records.filter(pc.equal(records["member"], ""))
        yield from _named(ids, records["image_id"], records["image_id"])
        yield from _named(uris, files["uri"], files["image_id"])


def _named(
    left: dict[str, str], names: pa.ChunkedArray, image_ids: pa.ChunkedArray
) -> Iterator[tuple[str, str]]:
    """image_id and group of the names that are left, each of which is then taken out."""
    places = pc.indices_nonzero(pc.is_in(names, pa.array(list(left), pa.string())))
    pairs = zip(names.take(places).to_pylist(), image_ids.take(places).to_pylist(), strict=True)
    for name, image_id in pairs:
        if name in left:
            yield image_id, left.pop(name)
