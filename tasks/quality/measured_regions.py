"""The regions of a build's masks, gathered from the artifacts that hold them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from storage.artifacts.store import ArtifactRef, ArtifactStore
from storage.embeddings.parts import open_embeddings
from storage.images.records import read_parquet
from tasks.quality.region_measuring import VECTORS
from tasks.stage.layout import REGION_VECTORS, REGIONS


def load_regions(
    refs: Sequence[ArtifactRef], image_ids: Sequence[str], store: ArtifactStore
) -> tuple[pa.Table, npt.NDArray[np.float16]]:
    """The regions of images, those that could not be measured included.

    Args:
        refs: of `embed_regions`.
        image_ids: of the images.

    Returns:
        The rows (`embed_regions.SCHEMA`), sorted by image_id and mask_id, whose `row` counts in
        the second result, float16 [n, 6, d]; -1 where there are no vectors.
    """
    wanted = pa.array(sorted(set(image_ids)), pa.string())
    tables, vectors, number = [], [], 0
    for ref in sorted(refs, key=str):
        artifact = store.get(ref)
        with artifact.open(REGIONS) as file:
            table = read_parquet(file)
        table = table.filter(pc.is_in(table["image_id"], wanted))
        rows = table["row"].to_numpy()
        usable = rows[rows >= 0]
        stored = open_embeddings(artifact, REGION_VECTORS)
        vectors.append(
            np.asarray(stored[usable[:, None] + np.arange(len(VECTORS))]).reshape(
                len(usable), len(VECTORS), stored.shape[1]
            )
        )
        counted = np.full(len(rows), -1, dtype=np.int64)
        counted[rows >= 0] = np.arange(number, number + len(usable))
        number += len(usable)
        at = table.schema.get_field_index("row")
        tables.append(table.set_column(at, "row", pa.array(counted)))
    merged = pa.concat_tables(tables)
    order = pc.sort_indices(merged, [("image_id", "ascending"), ("mask_id", "ascending")])
    return merged.take(order), np.concatenate(vectors)
