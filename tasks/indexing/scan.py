"""The stage `scan`: a listing of a corpus, with its new files cut into parts.

Parts are planned append-only: a plan begins with the parts of the previous plan, marks removed
files, and adds parts for new and changed files. Embeddings of parts therefore stay valid, and a
corpus that grows by a thousand files costs a thousand reads.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from storage.artifacts.fingerprints import Recipe, canonical_json, digest, unless_default
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore, damaged
from storage.corpora.corpus import Source, list_source, open_sources
from storage.corpora.listing import CONTAINERS, EXCLUDED, Listing
from storage.corpora.selection import Selection
from storage.errors.exceptions import ConfigError, CorpusError
from storage.errors.sentences import counted_kinds
from storage.files.filesystems import display, is_local, local_path, local_uri
from storage.files.user_files import user_path
from storage.images.records import read_parquet, write_parquet
from tasks.stage.contract import Progress
from tasks.stage.layout import ENTRIES, REJECTS

NAME = "scan"
VERSION = 1

# Assumed size of an image in a container, to estimate their number without opening it.
_BYTES_PER_PACKED_IMAGE = 100_000
# Few enough parts for Prefect's server, and small enough that losing one costs little.
_MOST_PARTS = 1_000
_SMALLEST_PART = 1_024
_ROWS_HASHED_AT_ONCE = 65_536
_LISTED = ["uri", "size", "version", "kind"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the scan.

    Attributes:
        source: one source of the corpus, by its `source_name`.
        part_images: approximate number of images per part; 0 for 1,024, or a thousandth of the
            new images if that is more.
        include, exclude: patterns of names, as in `Selection.of`.
        uri_column: the column of a table that has the images' URIs; empty: a usual one.
    """

    source: str
    part_images: int = 0
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    uri_column: str = ""

    @property
    def selection(self) -> Selection:
        return Selection(self.include, self.exclude)

    @property
    def recipe(self) -> Recipe:
        chosen = unless_default(self, "include", "exclude", "uri_column")
        return Recipe(stage=NAME, version=VERSION, config={"source": self.source, **chosen})

    def __post_init__(self) -> None:
        if self.part_images < 0:
            raise ConfigError(
                f"part_images is {self.part_images}: give a positive number, or 0 to let the "
                "scan choose."
            )


@dataclass(frozen=True)
class Inputs:
    """None: a scan reads the corpus, and of artifacts only its own last plan."""


def source_name(source: Source) -> str:
    """The name that links a source's successive plans, whatever its spelling."""
    if source.kind not in ("tars", "files"):
        return source.uris[0]
    if not is_local(source.spec):
        return source.spec
    return local_uri(str(user_path(local_path(source.spec))))


def run(config: Config, inputs: Inputs, store: ArtifactStore, progress: Progress) -> Artifact:
    """List the source and publish its plan, or return the last plan if nothing has changed.

    The plan holds `entries.parquet`: uri, size (bytes, -1 unknown), version (mtime or ETag), kind
    (`image`, or a container's, such as `tar`), part (int32), present (bool), in order of parts.

    Raises:
        CorpusError: the source is missing, of an unknown kind, or has no image, also because the
            patterns exclude all.
        ArtifactError: the last plan is damaged.
    """
    source = _open_source(config)
    listing = list_source(source, config.selection, uri_column=config.uri_column)
    if not listing.entries.num_rows:
        raise CorpusError(_nothing_there(config.source, listing))
    progress.advance(listing.entries.num_rows)
    recipe = config.recipe
    selection = {} if config.selection.takes_all else {"selection": asdict(config.selection)}
    listing_digest = _table_digest(listing.entries, listing.rejects)
    previous = _checked(_latest_plan(store, recipe))
    if previous is not None and previous.notes["listing"] == listing_digest:
        return previous
    items = {
        "listing": listing_digest,
        "previous": previous.key if previous else None,
        "part_images": config.part_images,
    }
    begun_with = None
    if previous is None and selection:
        begun_with = _latest_plan(store, replace(config, include=(), exclude=()).recipe)
        items |= {"begun_with": begun_with.key} if begun_with else {}
    known = _known_entries(previous or begun_with, listing.entries)
    if begun_with is not None:
        known = _parts_worth_keeping(known)
    entries = _extend(known, listing.entries, config.part_images)
    ref = ArtifactRef(NAME, recipe.key(items))
    with store.attempt(ref) as attempt:
        with attempt.create(ENTRIES) as file:
            write_parquet(entries, file)
        with attempt.create(REJECTS) as file:
            write_parquet(listing.rejects, file)
        return store.publish(
            attempt,
            recipe,
            inputs={"previous": items["previous"]},
            counts={
                "entries": listing.entries.num_rows,
                "removed": entries.num_rows - listing.entries.num_rows,
                "rejects": dict(Counter(listing.rejects["reason"].to_pylist())),
                "ignored": dict(sorted(listing.ignored.items())),
            },
            notes={
                "listing": listing_digest,
                "parts": _describe_parts(entries, selection),
                **selection,
            },
        )


def _checked(plan: Artifact | None) -> Artifact | None:
    if plan is not None and (problems := plan.problems()):
        raise damaged(plan.ref, problems)
    return plan


def _open_source(config: Config) -> Source:
    """The source of a `source_name`. A wildcard stands for the tars or images that it matches;
    other matches are sources with names of their own."""
    sources = open_sources([config.source], uri_column=config.uri_column)
    return next((source for source in sources if source.kind in ("tars", "files")), sources[0])


def _nothing_there(source: str, listing: Listing) -> str:
    reasons = Counter(listing.rejects["reason"].to_pylist())
    others = [f"{count} {reason}" for reason, count in sorted(reasons.items())]
    others += [counted_kinds(listing.ignored)] if listing.ignored else []
    if EXCLUDED in listing.ignored:
        return (
            f"--include and --exclude leave no image of {display(source)} ({', '.join(others)}): "
            "patterns match names relative to it, such as 'train/*.jpg'; change the patterns."
        )
    found = f" (but {', '.join(others)})" if others else ""
    return (
        f"{display(source)} holds no image and no tar that can be read{found}: give --corpus a "
        "folder, images, tars, zips, a table, a list or a COCO JSON with images."
    )


def _latest_plan(store: ArtifactStore, recipe: Recipe) -> Artifact | None:
    """The plan that no other continues. Two scans that raced may both have continued one plan:
    the one with more entries wins, and entries of the other are new again. Plans that continue
    the winner have no fewer entries, so that the other never wins later."""
    plans = store.published(NAME, recipe.prefix)
    continued = {plan.manifest["inputs"]["previous"] for plan in plans}
    heads = [plan for plan in plans if plan.key not in continued]
    return max(heads, key=lambda plan: (_known(plan), plan.key), default=None)


def _known(plan: Artifact) -> int:
    """The number of entries of a plan, present or not."""
    return int(plan.counts["entries"] + plan.counts["removed"])


def _known_entries(plan: Artifact | None, listing: pa.Table) -> pa.Table:
    """A plan's entries (none for None), with `present` updated."""
    if plan is None:
        return _with_parts(listing.slice(0, 0).select(_LISTED), 0, first=0)
    with plan.open(ENTRIES) as file:
        known = read_parquet(file)
    present = pc.is_in(_identities(known), value_set=_identities(listing))
    return known.set_column(known.schema.get_field_index("present"), "present", present)


def _parts_worth_keeping(known: pa.Table) -> pa.Table:
    """The parts of a plan without patterns of which the patterns keep at least half, renumbered.

    They may be embedded already. Embedding the others would be mostly in vain.
    """
    parts, present = known["part"].to_numpy(), known["present"].to_numpy()
    kept = 2 * np.bincount(parts, weights=present) >= np.bincount(parts)
    numbers = np.cumsum(kept, dtype=np.int32) - 1
    known = known.set_column(
        known.schema.get_field_index("part"), "part", pa.array(numbers[parts], pa.int32())
    )
    return known.filter(pa.array(kept[parts]))


def _extend(known: pa.Table, listing: pa.Table, part_images: int) -> pa.Table:
    """The known entries, then parts of new ones."""
    is_new = pc.invert(pc.is_in(_identities(listing), value_set=_identities(known)))
    fresh = listing.select(_LISTED).filter(is_new)
    first = pc.max(known["part"]).as_py() + 1 if known.num_rows else 0
    return pa.concat_tables([known, _with_parts(fresh, part_images, first=first)])


def _identities(entries: pa.Table) -> pa.Array:
    """One string per row that identifies an entry across scans."""
    # In one array, whose 32-bit offsets some ten million names would overflow.
    columns = (pc.cast(entries[name], pa.large_string()) for name in ("version", "size", "uri"))
    joined = pc.binary_join_element_wise(*columns, pa.scalar(" ", pa.large_string()))
    return pa.chunked_array(joined).combine_chunks()


def _with_parts(entries: pa.Table, part_images: int, *, first: int) -> pa.Table:
    """Cut entries, in their order, into parts of about equal numbers of images."""
    weights = np.ones(entries.num_rows)
    is_container = pc.is_in(entries["kind"], pa.array(sorted(CONTAINERS))).to_numpy()
    sizes = entries["size"].to_numpy()
    guessed = np.where(sizes < 0, _SMALLEST_PART, np.ceil(sizes / _BYTES_PER_PACKED_IMAGE))
    weights[is_container] = np.maximum(1, guessed[is_container])
    limit = part_images or max(_SMALLEST_PART, math.ceil(weights.sum() / _MOST_PARTS))
    parts = np.empty(entries.num_rows, dtype=np.int32)
    part, load = first, 0.0
    for row, weight in enumerate(weights):
        if load and load + weight > limit:
            part, load = part + 1, 0.0
        parts[row] = part
        load += weight
    return entries.append_column("part", pa.array(parts, pa.int32())).append_column(
        "present", pa.array(np.ones(entries.num_rows, dtype=bool))
    )


def _describe_parts(entries: pa.Table, selection: dict[str, Any]) -> list[dict[str, object]]:
    """Digest and number of entries of every part.

    Patterns are part of a digest only where the part has containers, whose members they select.
    """
    parts = entries["part"].to_numpy()
    starts = np.flatnonzero(np.diff(parts, prepend=-1))
    ends = np.append(starts[1:], len(parts))
    return [
        {
            "digest": digest(_part_items(entries.slice(start, end - start), selection)),
            "items": int(end - start),
        }
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
    ]


def _part_items(entries: pa.Table, selection: dict[str, Any]) -> list[object]:
    rows = entries.select(_LISTED).to_pylist()
    items: list[object] = [list(row.values()) for row in rows]
    has_members = any(row["kind"] in CONTAINERS for row in rows)
    return [*items, selection] if selection and has_members else items


def _table_digest(*tables: pa.Table) -> str:
    """sha256 of the tables' rows, computed in batches to save memory."""
    sha256 = hashlib.sha256()
    for table in tables:
        sha256.update(f"{table.column_names} {table.num_rows}\n".encode())
        for batch in table.combine_chunks().to_batches(max_chunksize=_ROWS_HASHED_AT_ONCE):
            sha256.update(canonical_json([column.to_pylist() for column in batch]).encode())
    return sha256.hexdigest()
