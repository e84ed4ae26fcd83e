"""Which items a recipe has already been applied to, over all the artifacts it has made.

Masks, text rows and searches are kept per item but published in batches. Before a batch is
planned, the store is asked what is there already, whichever run made it.
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
        column: the column with the items' names.

    Returns:
        Item to artifact key. An item that two artifacts hold (two runs that overlapped) belongs
        to the one whose key sorts first, whoever asks.

    Raises:
        ArtifactError: if an artifact is damaged, in whichever of its files.
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
