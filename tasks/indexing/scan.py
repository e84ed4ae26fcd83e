"""List what a corpus holds now and cut what is new into parts.

Parts are planned append-only: a plan begins with the parts of the plan before it, marks what has
disappeared, and adds parts for new and changed files. Embeddings of parts stay valid for ever,
and a corpus that grows by a thousand files costs a thousand reads.
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
from storage.corpora.listing import EXCLUDED, TAR, Listing
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

# What a tar's image is assumed to weigh, to tell how many a tar holds without opening it.
_BYTES_PER_TAR_IMAGE = 100_000
# Parts are as many as Prefect's server takes in with ease, and small enough to lose one.
_MOST_PARTS = 1_000
_SMALLEST_PART = 1_024
_ROWS_HASHED_AT_ONCE = 65_536
_LISTED = ["uri", "size", "version", "kind"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the scan.

    Attributes:
        source: one source of the corpus, as `source_name` names it.
        part_images: images a part, about; 0 chooses 1,024 or a thousandth of what is new.
        include, exclude: patterns of names, as `Selection.of` has them.
        uri_column: of a table, the column that says where its images are; empty: a usual one.
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
    """A scan reads the corpus and no artifact but its own last plan."""


def source_name(source: Source) -> str:
    """The name under which a source's plans follow one another, however it was spelled."""
    if source.kind not in ("tars", "files"):
        return source.uris[0]
    if not is_local(source.spec):
        return source.spec
    return local_uri(str(user_path(local_path(source.spec))))


def run(config: Config, inputs: Inputs, store: ArtifactStore, progress: Progress) -> Artifact:
    """Look at the source and publish its plan, or return the last one if nothing changed.

    The plan holds `entries.parquet`: uri, size (bytes, -1 unknown), version (mtime or ETag), kind
    (`image` or `tar`), part (int32), present (bool), in order of parts.

    Raises:
        CorpusError: if the source is missing, not of a known kind, or holds nothing to read, also
            because patterns leave nothing of it.
        ArtifactError: if the last plan is damaged.
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
    """The source of a `source_name`. Wildcards may match tars or images, and other things; those
    others are sources with names of their own, so that such a name stands for the former."""
    sources = open_sources([config.source], uri_column=config.uri_column)
    return next((source for source in sources if source.kind in ("tars", "files")), sources[0])


def _nothing_there(source: str, listing: Listing) -> str:
    reasons = Counter(listing.rejects["reason"].to_pylist())
    others = [f"{count} {reason}" for reason, count in sorted(reasons.items())]
    others += [counted_kinds(listing.ignored)] if listing.ignored else []
    if EXCLUDED in listing.ignored:
        return (
            f"--include and --exclude leave nothing of {display(source)} ({', '.join(others)}): "
            "patterns are about names from there on, such as 'train/*.jpg'; change them."
        )
    found = f" (but {', '.join(others)})" if others else ""
    return (
        f"{display(source)} holds no image and no tar that can be read{found}: give --corpus a "
        "folder, images, tars, a table, a list or a COCO JSON that has some."
    )


def _latest_plan(store: ArtifactStore, recipe: Recipe) -> Artifact | None:
    """The plan that no other continues. Two scans that raced may both have continued one: the
    one that knows more entries is taken, and what the other had planned becomes new again. The
    plans that continue it know no fewer, so that the other is never taken up again."""
    plans = store.published(NAME, recipe.prefix)
    continued = {plan.manifest["inputs"]["previous"] for plan in plans}
    heads = [plan for plan in plans if plan.key not in continued]
    return max(heads, key=lambda plan: (_known(plan), plan.key), default=None)


def _known(plan: Artifact) -> int:
    """How many entries a plan holds, present or not."""
    return int(plan.counts["entries"] + plan.counts["removed"])


def _known_entries(plan: Artifact | None, listing: pa.Table) -> pa.Table:
    """A plan's entries, none for None, with their `present` brought up to date."""
    if plan is None:
        return _with_parts(listing.slice(0, 0).select(_LISTED), 0, first=0)
    with plan.open(ENTRIES) as file:
        known = read_parquet(file)
    present = pc.is_in(_identities(known), value_set=_identities(listing))
    return known.set_column(known.schema.get_field_index("present"), "present", present)


def _parts_worth_keeping(known: pa.Table) -> pa.Table:
    """Of a plan without patterns, the parts of which patterns leave half and more, numbered anew.

    They may be embedded already. The others may not be, and would be for little.
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
    """What makes an entry the one of an earlier scan, as one string a row."""
    # In one array, whose 32-bit offsets some ten million names would overflow.
    columns = (pc.cast(entries[name], pa.large_string()) for name in ("version", "size", "uri"))
    joined = pc.binary_join_element_wise(*columns, pa.scalar(" ", pa.large_string()))
    return pa.chunked_array(joined).combine_chunks()


def _with_parts(entries: pa.Table, part_images: int, *, first: int) -> pa.Table:
    """Cut entries, in their order, into parts of about equal numbers of images."""
    weights = np.ones(entries.num_rows)
    is_tar = pc.equal(entries["kind"], "tar").to_numpy()
    sizes = entries["size"].to_numpy()
    guessed = np.where(sizes < 0, _SMALLEST_PART, np.ceil(sizes / _BYTES_PER_TAR_IMAGE))
    weights[is_tar] = np.maximum(1, guessed[is_tar])
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

    Patterns decide what is read of a part only where it has tars.
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
    has_tars = any(row["kind"] == TAR for row in rows)
    return [*items, selection] if selection and has_tars else items


def _table_digest(*tables: pa.Table) -> str:
    """sha256 of the tables' rows, taken in batches: a listing may have more than memory likes."""
    sha256 = hashlib.sha256()
    for table in tables:
        sha256.update(f"{table.column_names} {table.num_rows}\n".encode())
        for batch in table.combine_chunks().to_batches(max_chunksize=_ROWS_HASHED_AT_ONCE):
            sha256.update(canonical_json([column.to_pylist() for column in batch]).encode())
    return sha256.hexdigest()
