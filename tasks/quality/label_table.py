"""The labels of a build before they are judged: retrieved categories joined with measured regions,
or the objects that were named.

Dimensions:
    n  labels
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from storage.artifacts.store import ArtifactRef, ArtifactStore
from storage.images.records import read_parquet
from tasks.categories.logits import Logits
from tasks.quality.label_signals import REGION_SIGNALS, text_signals
from tasks.quality.measured_regions import load_regions
from tasks.quality.neighbours import neighbour_agreement
from tasks.quality.region_measuring import VECTORS
from tasks.stage.layout import NAMED_OBJECTS, RETRIEVAL


@dataclass(frozen=True, eq=False)
class LabelTable:
    """Labels with a measured region, in the order of image_id, mask_id and category_id.

    Attributes:
        rows: [n] image_id, mask_id, category_id, category, rank, score, probability, margin.
        signals: float32 [n] by name: `label_signals.TEXT_SIGNALS`, `REGION_SIGNALS` and
            `CORPUS_SIGNALS`.
        unmeasured: the same columns as `rows`, of labels whose regions could not be measured.
    """

    rows: pa.Table
    signals: dict[str, npt.NDArray[np.float32]]
    unmeasured: pa.Table


_RETRIEVED = ["image_id", "category_id", "category", "rank", "score", "probability", "margin"]


def label_table(
    retrieval: ArtifactRef,
    regions: Sequence[ArtifactRef],
    texts: npt.NDArray[np.float32],
    logits: Logits,
    store: ArtifactStore,
    named: ArtifactRef | None = None,
) -> LabelTable:
    """Join the kept rows of a retrieval with their images' regions; or, where objects have names
    of their own, these with their regions.

    Args:
        named: of `name_objects`.
        texts: [k, d], of category_ids 1 to k, by the CLIP of the regions.
        logits: of that CLIP.
    """
    kept = _named(named, store) if named else _kept(retrieval, store)
    found, vectors = load_regions(regions, kept["image_id"].to_pylist(), store)
    keys = ["image_id", "mask_id"] if named else "image_id"
    joined = kept.join(found, keys, join_type="inner").sort_by(
        [("image_id", "ascending"), ("mask_id", "ascending"), ("category_id", "ascending")]
    )
    measured = pc.greater_equal(joined["row"], 0)
    columns = [*_RETRIEVED[:1], "mask_id", *_RETRIEVED[1:]]
    usable, unmeasured = joined.filter(measured), joined.filter(pc.invert(measured))
    own = vectors[usable["row"].to_numpy()].astype(np.float32)
    category = usable["category_id"].to_numpy() - 1
    signals = text_signals(own, texts, category, logits)
    columns_of_masks = (*REGION_SIGNALS, "objectness")
    signals |= {name: usable[name].to_numpy().astype(np.float32) for name in columns_of_masks}
    signals["neighbours"] = _neighbours(usable["image_id"], own, category)
    return LabelTable(usable.select(columns), signals, unmeasured.select(columns))


def _neighbours(
    image_ids: pa.ChunkedArray, vectors: npt.NDArray[np.float32], category: npt.NDArray[np.integer]
) -> npt.NDArray[np.float32]:
    """Agreement with similar images, by the vector of the whole image."""
    _, first, image_of = np.unique(
        image_ids.to_numpy(zero_copy_only=False), return_index=True, return_inverse=True
    )
    whole = vectors[first, VECTORS.index("whole")]
    return neighbour_agreement(whole, image_of, category)


def _kept(retrieval: ArtifactRef, store: ArtifactStore) -> pa.Table:
    with store.get(retrieval).open(RETRIEVAL) as file:
        table = read_parquet(file, columns=[*_RETRIEVED, "kept"])
    return table.filter(table["kept"]).select(_RETRIEVED)


def _named(named: ArtifactRef, store: ArtifactStore) -> pa.Table:
    with store.get(named).open(NAMED_OBJECTS) as file:
        table = read_parquet(file, columns=[*_RETRIEVED, "mask_id", "reason"])
    return table.filter(pc.equal(table["reason"], "")).drop_columns(["reason"])
