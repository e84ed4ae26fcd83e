"""Checks of files' first bytes in a listing: images without extension, label maps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from storage.corpora.label_maps import HEAD_BYTES, is_palette_png, label_map_keys, photograph_keys
from storage.corpora.listing import IMAGE, UNKNOWN, Listing
from storage.files.file_heads import read_heads
from storage.files.filesystems import name_within

_FILES_AT_ONCE = 1_024


def look_into_files(listing: Listing, root: str) -> Listing:
    """The listing, with images and label maps recognised by first bytes; few files are opened.

    Entries of kind `UNKNOWN` become images, or are counted as other files. PNGs with a palette are
    counted as label maps where the photographs are there that they belong to.

    Args:
        listing: of a search; files that a user names one by one are not checked.
        root: URI of the folder to which names are relative.

    Raises:
        UnreachableError: the file system can't be used.
    """
    return _without_label_maps(_with_known_kinds(listing), root)


def _with_known_kinds(listing: Listing) -> Listing:
    from storage.images.decoding import HEAD_BYTES, looks_like_image  # which takes a moment

    entries = listing.entries
    unknown = pc.equal(entries["kind"], UNKNOWN).to_numpy()
    if not unknown.any():
        return listing
    places = np.flatnonzero(unknown & (entries["size"].to_numpy() != 0))
    images = _where(entries["uri"], places, HEAD_BYTES, looks_like_image)
    others = unknown.copy()
    others[images] = False
    kinds = pc.if_else(pa.array(unknown), IMAGE, entries["kind"])
    entries = entries.set_column(
        entries.schema.get_field_index("kind"), entries.field("kind"), kinds
    )
    ignored = Counter(listing.ignored) + Counter({"": int(others.sum())})
    return Listing(
        entries.filter(pa.array(~others)), listing.rejects, dict(sorted(ignored.items()))
    )


def _without_label_maps(listing: Listing, root: str) -> Listing:
    entries = listing.entries
    candidates = list(_beside_photographs(entries["uri"], root))
    maps = _where(entries["uri"], candidates, HEAD_BYTES, is_palette_png)
    if not maps:
        return listing
    kept = np.ones(entries.num_rows, dtype=bool)
    kept[maps] = False
    ignored = Counter(listing.ignored) + Counter({"label map": len(maps)})
    return Listing(entries.filter(pa.array(kept)), listing.rejects, dict(sorted(ignored.items())))


def _beside_photographs(uris: pa.ChunkedArray, root: str) -> Iterator[int]:
    """Places of PNGs that are label maps if they have a palette, in order.

    Keys are kept of PNGs alone: a corpus without any costs no memory.
    """
    is_png = pc.match_substring(uris, ".png", ignore_case=True)
    if not pc.any(is_png).as_py():
        return
    wanted: dict[str, list[int]] = {}
    for place in np.flatnonzero(is_png.to_numpy()).tolist():
        for key in label_map_keys(name_within(root, uris[place].as_py())):
            wanted.setdefault(key, []).append(place)
    found: set[int] = set()
    for chunk in uris.chunks:
        for uri in chunk.to_pylist():
            for key in photograph_keys(name_within(root, uri)):
                found.update(wanted.get(key, ()))
    yield from sorted(found)


def _where(
    uris: pa.ChunkedArray,
    places: Sequence[int] | np.ndarray,
    length: int,
    holds: Callable[[bytes], bool],
) -> list[int]:
    """Those of the places whose files begin in a way for which `holds` holds."""
    found = []
    for start in range(0, len(places), _FILES_AT_ONCE):
        some = places[start : start + _FILES_AT_ONCE]
        heads = read_heads([uris[int(place)].as_py() for place in some], length)
        found += [int(place) for place, head in zip(some, heads, strict=True) if holds(head)]
    return found
