"""The stage `score_labels`: every label with its signals and an estimate of how good it is.

`quality` estimates the IoU of the label's mask with the object that it means: the probability that
the category is right times the IoU where it is. The estimator is learned from damaged labels of the
same corpus (`damage_labels`); where there are too few, a fixed formula takes its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.embeddings.parts import open_embeddings
from storage.images.records import read_parquet, write_parquet
from tasks.categories.logits import Logits
from tasks.quality.estimator import (
    LEAST_EXAMPLES,
    Estimates,
    Estimator,
    Examples,
    feature_matrix,
)
from tasks.quality.label_signals import REGION_SIGNALS, plain_confidence, text_signals
from tasks.quality.label_table import LabelTable, label_table
from tasks.quality.proposed_mask import PROPOSED
from tasks.quality.region_measuring import VECTORS
from tasks.quality.reliability import reliability
from tasks.retrieval.text_rows import TextRow, load_text_rows
from tasks.stage.contract import Progress
from tasks.stage.layout import EXAMPLE_VECTORS, EXAMPLES, LABELS

NAME = "score_labels"
VERSION = 2  # 2: SelfMask's own masks count most, no mask is taken for the truth

# Of wrong categories: how often the most similar one is taken, and not any.
_RIVAL_SHARE = 0.7
# Of masks that SelfMask proposed itself, whose errors are those of real labels.
_WEIGHT_OF_PROPOSED = 5.0


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the estimate.

    Attributes:
        seed: of the examples with wrong categories and of the models.
    """

    seed: int = 0


@dataclass(frozen=True)
class Inputs:
    """A retrieval, its regions, the damaged labels, and the categories' texts by the regions' CLIP,
    in the order of category_ids from 1; of several objects an image also their names."""

    retrieval: ArtifactRef
    regions: tuple[ArtifactRef, ...]
    damaged: ArtifactRef
    texts: tuple[TextRow, ...]
    named: ArtifactRef | None = None


def _recipe(config: Config, inputs: Inputs) -> Recipe:
    return Recipe(
        stage=NAME,
        version=VERSION,
        config={"seed": config.seed},
        inputs={
            "retrieval": inputs.retrieval.key,
            "regions": sorted(ref.key for ref in inputs.regions),
            **({"named": inputs.named.key} if inputs.named else {}),
            "damaged": inputs.damaged.key,
        },
    )


def locate(config: Config, inputs: Inputs, store: ArtifactStore) -> ArtifactRef:
    return ArtifactRef(NAME, _recipe(config, inputs).key([text.text_id for text in inputs.texts]))


def run(config: Config, inputs: Inputs, store: ArtifactStore, progress: Progress) -> Artifact:
    """Publish `labels.parquet`, a row for every label: image_id, mask_id, category_id, category,
    rank, score, probability, margin, `category_probability`, `estimated_iou` and `quality` (empty
    where the region could not be measured), and every signal (`label_signals`).

    The notes tell how the estimate was made (`method`, learned or formula) and what it is worth on
    damaged labels of images that it had not learned from (`reliability`).
    """
    texts, logits = load_text_rows(inputs.texts, store)
    labels = label_table(inputs.retrieval, inputs.regions, texts, logits, store, inputs.named)
    examples = _examples(store.get(inputs.damaged), texts, logits, config.seed)
    enough = examples is not None and len(np.unique(examples.groups)) >= LEAST_EXAMPLES
    notes: dict[str, Any] = {"method": "learned" if enough else "formula"}
    if examples is not None and enough:
        estimator = Estimator(examples, config.seed)
        estimates = estimator(feature_matrix(labels.signals))
        held_out = estimator.held_out
        notes["reliability"] = asdict(
            reliability(
                held_out.quality, held_out.category_probability, examples.iou, examples.right
            )
        )
    else:
        plain = plain_confidence(labels.signals)
        estimates = Estimates(plain, np.ones_like(plain))
    progress.advance(labels.rows.num_rows)
    table = _table(labels, estimates)
    with store.attempt(locate(config, inputs, store)) as attempt:
        with attempt.create(LABELS) as file:
            write_parquet(table, file)
        return store.publish(
            attempt, _recipe(config, inputs),
            counts={"labels": table.num_rows, "unmeasured": labels.unmeasured.num_rows},
            notes=notes,
        )  # fmt: skip


def _table(labels: LabelTable, estimates: Estimates) -> pa.Table:
    table = labels.rows
    for name in ("category_probability", "estimated_iou", "quality"):
        table = table.append_column(name, pa.array(getattr(estimates, name), pa.float32()))
    for name, values in labels.signals.items():
        table = table.append_column(name, pa.array(values, pa.float32()))
    merged = pa.concat_tables([table, labels.unmeasured], promote_options="default")
    order = [(name, "ascending") for name in ("image_id", "mask_id", "category_id")]
    return merged.sort_by(order)


def _examples(
    damaged: Artifact, texts: npt.NDArray[np.float32], logits: Logits, seed: int
) -> Examples | None:
    """Damaged labels with right and with wrong categories; None where there are none.

    Every damaged mask is taken with a category that its image shows, and with two that it doesn't:
    one of the whole vocabulary, and one after what the image shows was taken out of the vocabulary,
    which is what an object of no category looks like. The IoU with a mask that is believed is taken
    times that mask's stability, which stands for its own IoU with the truth.
    """
    with damaged.open(EXAMPLES) as file:
        rows = read_parquet(file).to_pylist()
    if not rows:
        return None
    stored = open_embeddings(damaged, EXAMPLE_VECTORS)
    vectors = np.asarray(stored, dtype=np.float32).reshape(len(rows), len(VECTORS), -1)
    taken = list(_with_categories(rows, vectors, texts, seed))
    if not taken:
        return None
    place = np.array([one.example for one in taken])
    signals = text_signals(
        vectors[place],
        texts,
        np.array([one.category_id - 1 for one in taken]),
        logits,
        np.stack([one.hidden for one in taken]),
    )
    signals |= {
        name: np.array([rows[at][name] for at in place], dtype=np.float32)
        for name in REGION_SIGNALS
    }
    return Examples(
        features=feature_matrix(signals),
        right=np.array([one.right for one in taken]),
        iou=np.array([one.iou for one in taken], dtype=np.float32),
        weight=np.array(
            [_WEIGHT_OF_PROPOSED if rows[at]["way"] == PROPOSED else 1.0 for at in place]
        ),
        groups=np.array([rows[at]["group"] for at in place]),
    )


@dataclass(frozen=True, eq=False)
class _Example:
    """A damaged mask with a category."""

    example: int
    category_id: int
    right: bool
    iou: float
    hidden: npt.NDArray[np.bool_]  # [k], categories that the vocabulary is to be without


def _with_categories(
    rows: Sequence[dict[str, Any]],
    vectors: npt.NDArray[np.float32],
    texts: npt.NDArray[np.float32],
    seed: int,
) -> list[_Example]:
    rng = np.random.default_rng(seed)
    likeness = vectors[:, VECTORS.index("whole")] @ texts.T
    found = []
    for at, row in enumerate(rows):
        shown = {each["category_id"]: each["iou"] * each["stability"] for each in row["shown"]}
        ids = list(shown)
        right = [ids[0], *([ids[1 + int(rng.random() * (len(ids) - 1))]] if ids[1:] else [])]
        nothing = np.zeros(len(texts), dtype=np.bool_)
        found += [_Example(at, each, True, shown[each], nothing) for each in right]
        absent = np.setdiff1d(np.arange(1, len(texts) + 1), ids)
        if not len(absent):
            continue
        without = nothing.copy()
        without[[each - 1 for each in ids]] = True
        for hidden in (nothing, without):
            rival = int(absent[np.argmax(likeness[at, absent - 1])])
            other = int(absent[int(rng.random() * len(absent))])
            taken = rival if rng.random() < _RIVAL_SHARE else other
            found.append(_Example(at, taken, False, 0.0, hidden))
    return found
