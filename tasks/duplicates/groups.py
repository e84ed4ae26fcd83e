"""The table of near-duplicates: which images show the same as others, and how they differ."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from tasks.duplicates.confirming import Match

SCHEMA = pa.schema(
    [
        # Each image of a group once; images without a near-duplicate are not in the table.
        ("image_id", pa.string()),
        # The smallest image_id of its group.
        ("group", pa.string()),
        # The image of the group to which it was found to be closest; '' where a file says so.
        ("matches", pa.string()),
        # Cosine of the embeddings of the two; null where a file says so.
        ("similarity", pa.float32()),
        # 1 - correlation of the details of what both show; likewise.
        ("distance", pa.float32()),
        # How the two differ, see `confirming.Match`; likewise ''.
        ("way", pa.string()),
    ]
)


def found_groups(image_ids: Sequence[str], matches: Sequence[Match]) -> pa.Table:
    """The table of groups that matches connect, by `SCHEMA`, sorted by group and image_id.

    Args:
        image_ids: by the numbers that the matches have.
        matches: each says that two images show the same.
    """
    from scipy.cluster.hierarchy import DisjointSet

    closest: dict[int, tuple[float, str, Match]] = {}
    for match in matches:
        for one, other in ((match.first, match.second), (match.second, match.first)):
            rank = (match.distance, image_ids[other], match)
            if one not in closest or rank[:2] < closest[one][:2]:
                closest[one] = rank
    together = DisjointSet(closest)
    for match in matches:
        together.merge(match.first, match.second)
    rows = []
    for members in together.subsets():
        group = min(image_ids[number] for number in members)
        for number in members:
            _, matches_id, match = closest[number]
            rows.append(
                {
                    "image_id": image_ids[number],
                    "group": group,
                    "matches": matches_id,
                    "similarity": match.similarity,
                    "distance": match.distance,
                    "way": match.way,
                }
            )
    return _table(rows)


def named_groups(groups: dict[str, str]) -> pa.Table:
    """The table of groups that a file names, likewise; groups of one image are left out.

    Args:
        groups: the name of its group, by image_id.
    """
    members: dict[str, list[str]] = {}
    for image_id, name in groups.items():
        members.setdefault(name, []).append(image_id)
    return _table(
        [
            {"image_id": image_id, "group": min(together), "matches": "", "way": ""}
            for together in members.values()
            if len(together) > 1
            for image_id in together
        ]
    )


def _table(rows: list[dict[str, object]]) -> pa.Table:
    rows.sort(key=lambda row: (row["group"], row["image_id"]))
    return pa.Table.from_pylist(rows, SCHEMA)
