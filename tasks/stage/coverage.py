"""Items that a recipe has already been applied to, over all its artifacts.

Masks, text rows and searches are cached per item but published in batches. Before a batch is
planned, the store is searched for finished items of any run.
"""

from __future__ import annotations

from storage.artifacts.store import ArtifactStore, damaged
from storage.images.records import read_parquet


def covered_items(
    store: ArtifactStore, stage: str, prefix: str, *, file: str, column: str
) -> dict[str, str]:
    """Map every item to the key of the artifact that holds it.

    Args:
        stage: the stage whose artifacts to look through.
        prefix: the recipe's key prefix.
        file: the Parquet file, in each artifact, that lists its items.
        column: the column that identifies the items.

    Returns:
        Item to artifact key. An item in two artifacts (of two runs that overlapped) belongs to the
        one whose key sorts first.

    Raises:
        ArtifactError: an artifact is damaged, in any of its files.
    """
    owners: dict[str, str] = {}
    for artifact in store.published(stage, prefix):
        if problems := artifact.problems():
            raise damaged(artifact.ref, problems)
        with artifact.open(file) as handle:
            items = read_parquet(handle, columns=[column])[column].to_pylist()
        for item in items:
            owners.setdefault(item, artifact.key)
    return owners
