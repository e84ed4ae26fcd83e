"""The stage `retrieve`: ranked images of every category, with an overlap policy.

An image may be retrieved for several categories. The reference silently gives it to the last one
(`last`). Here the default is the most probable category of the whole vocabulary by CLIP (`best`),
and every dropped row stays in the table with its reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from storage.artifacts.fingerprints import Recipe, unless_default
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.errors.exceptions import ConfigError, CorpusError
from storage.errors.sentences import counted_kinds
from storage.images.records import read_parquet, write_parquet
from tasks.categories.category_texts import refuse_equal_texts
from tasks.categories.logits import Logits
from tasks.indexing.index_rows import IndexRows, load_index_rows, records_at
from tasks.retrieval.category_queries import (
    CategoryQuery,
    artifacts_read,
    load_neighbours,
    sampled_positions,
)
from tasks.retrieval.other_meanings import nearer_to_others
from tasks.retrieval.score_background import exceeds_background
from tasks.retrieval.score_scales import ScoreScales
from tasks.retrieval.text_rows import load_text_rows
from tasks.stage.contract import Progress
from tasks.stage.layout import EVIDENCE, RETRIEVAL, RETRIEVED_IMAGES

NAME = "retrieve"
VERSION = 2
POLICIES = ("best", "all", "last")
_NEARER = "nearer_to_not"
_BEYOND = "beyond_evidence"
_THIN = "thin_category"
_REASONS = {"best": "more_probable_elsewhere", "last": "taken_by_later_category"}
# Each default is the lowest value, which lets everything pass.
_THRESHOLDS = ("min_score", "min_probability", "min_margin")
_BY_EVIDENCE = ("at_least", "drop_thin")
_ROWS_AT_ONCE = 16_384
_LOCATION = ["uri", "member", "offset", "length", "height", "width", "format", "conversion"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the retrieval.

    Attributes:
        overlap: policy for an image retrieved for several categories. `best` gives it to the
            category of highest probability, ties to the better rank; `all` keeps it for each;
            `last` gives it to the last category, as the reference does.
        min_score: lowest cosine, 0..1. Rows with a cosine below 0 are always dropped.
        min_probability: lowest probability of the category, 0..1: a CLIP's softmax over the
            vocabulary, or a SigLIP's sigmoid, which is independent of the other categories.
        min_margin: lowest difference of that probability to the best other category's, -1..1.
        at_least: a category's images end where the evidence does, but not before so many; None:
            the evidence ends nothing.
        drop_thin: whether categories that the evidence calls thin get no image.
    """

    overlap: str = "best"
    min_score: float = 0.0
    min_probability: float = 0.0
    min_margin: float = -1.0
    at_least: int | None = None
    drop_thin: bool = False

    def __post_init__(self) -> None:
        if self.overlap not in POLICIES:
            raise ConfigError(f"overlap is {self.overlap!r}: choose {', '.join(POLICIES)}.")
        for name in _THRESHOLDS:
            least = getattr(Config, name)
            if not least <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}: choose {least:g} to 1.")

    @property
    def deciding(self) -> dict[str, Any]:
        """The settings in the key, without thresholds that let everything pass."""
        return {"overlap": self.overlap, **unless_default(self, *_THRESHOLDS, *_BY_EVIDENCE)}


@dataclass(frozen=True)
class Inputs:
    """An index and the vocabulary's categories.

    Attributes:
        evidence: of the categories, where a setting goes by it.
    """

    index: ArtifactRef
    categories: tuple[CategoryQuery, ...]
    evidence: ArtifactRef | None = None


def _recipe(config: Config, inputs: Inputs) -> Recipe:
    return Recipe(
        stage=NAME,
        version=VERSION,
        config=config.deciding,
        inputs={
            "index": inputs.index.key,
            **artifacts_read(inputs.categories),
            **({"evidence": inputs.evidence.key} if inputs.evidence else {}),
        },
    )


def locate(config: Config, inputs: Inputs, store: ArtifactStore) -> ArtifactRef:
    items = [category.described for category in inputs.categories]
    return ArtifactRef(NAME, _recipe(config, inputs).key(items))


def run(config: Config, inputs: Inputs, store: ArtifactStore, progress: Progress) -> Artifact:
    """Publish the ranked table and the images in it.

    `retrieval.parquet`: category_id, category, rank, image_id, score (cosine), probability
    (see `tasks.categories.logits`), margin (probability minus that of the most probable other
    category), kept, reason (empty where kept), kept_by (the category_id that keeps the image; 0
    for none). `images.parquet`: each kept image once, with the location of its bytes and the key of
    its embedded part (`embedded`). The note `not_found` names the categories whose best scores are
    not above the background of the corpus (`exceeds_background`).

    Raises:
        CorpusError: no image passes the thresholds for any category.
        VocabularyError: CLIP reads the different prompts of two categories as one text.
    """
    table = load_neighbours(inputs.categories, store)
    index = store.get(inputs.index)
    rows, _ = load_index_rows(index, store)
    positions, which = np.unique(table["position"].to_numpy(), return_inverse=True)
    texts, logits = load_text_rows([category.text for category in inputs.categories], store)
    searched, _ = load_text_rows([category.searched for category in inputs.categories], store)
    refuse_equal_texts([(each.name, each.searched.text_id) for each in inputs.categories], searched)
    column = table["column"].to_numpy()
    sampled = sampled_positions(len(rows))
    scales = None
    if any(category.examples for category in inputs.categories):
        scales = ScoreScales.of(rows.fetch(sampled).astype(np.float64), searched, texts)
    read = np.union1d(positions, sampled)  # together: each part costs requests on object stores
    where = np.searchsorted(read, positions)[which]
    probability, margin, background = _probabilities(
        rows, read, searched, logits, scales, where, column, np.isin(read, sampled)
    )
    score = table["score"].to_numpy()
    failed = _failed_threshold(config, score, probability, margin)
    nearer = nearer_to_others(
        inputs.categories, rows, table["position"].to_numpy(), column,
        scales.scores(score, column) if scales else score, store,
    )  # fmt: skip
    failed[(failed == "") & nearer] = _NEARER
    if inputs.evidence:
        reason = _reasons_by_evidence(config, store.get(inputs.evidence), table)
        failed = np.where(failed == "", reason, failed)
    images, place = np.unique(rows.image_of(positions), return_inverse=True)
    of_image = place[which]  # categories may have found different crops of one image
    keeper = _keepers(config, failed, of_image, column, table["rank"].to_numpy(), probability)
    ranked = _ranked_table(
        table, inputs.categories, probability, margin, keeper, failed, config.overlap
    )
    _check_that_some_are_kept(ranked)
    kept_positions = images[np.unique(of_image[ranked["kept"].to_numpy(zero_copy_only=False)])]
    progress.advance(len(inputs.categories))
    with store.attempt(locate(config, inputs, store)) as attempt:
        with attempt.create(RETRIEVAL) as file:
            write_parquet(ranked, file)
        with attempt.create(RETRIEVED_IMAGES) as file:
            write_parquet(_locations(index, kept_positions, store), file)
        kept = int(np.count_nonzero(ranked["kept"].to_numpy(zero_copy_only=False)))
        return store.publish(
            attempt, _recipe(config, inputs),
            counts={"rows": ranked.num_rows, "kept": kept, "dropped": ranked.num_rows - kept,
                    "images": len(kept_positions)},
            notes={"not_found": _not_found(inputs.categories, table, background, len(rows))},
        )  # fmt: skip


def _check_that_some_are_kept(ranked: pa.Table) -> None:
    if pc.any(ranked["kept"]).as_py():
        return
    reasons = Counter(ranked["reason"].to_pylist())
    if others := {reason: reasons[reason] for reason in (_NEARER, _BEYOND) if reasons[reason]}:
        raise CorpusError(
            f"No category keeps an image ({counted_kinds(others)}): write other texts under `not`"
            " in the vocabulary, raise the lower bound of --per-category auto, or give images that"
            " show the categories."
        )
    best = pc.max(ranked["score"]).as_py()
    raise CorpusError(
        f"No image passes min_score, min_probability and min_margin for any category (the "
        f"highest score is {best:.3f}): lower them, or give images that show the categories."
    )


def _probabilities(
    rows: IndexRows,
    positions: np.ndarray,
    texts: np.ndarray,
    logits: Logits,
    scales: ScoreScales | None,
    which: np.ndarray,
    column: np.ndarray,
    sampled: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probability and margin, float32 [n], of table rows (image `which`, category `column`), from
    the cosines with `texts`, on the scale of texts if `scales` are given; and the cosines float64
    [s, k] of the images marked in `sampled`, bool, one per position."""
    # A matrix product may round equal columns differently, so categories of equal text share one
    # column and tie.
    distinct, text_of = np.unique(texts.astype(np.float64), axis=0, return_inverse=True)
    probability = np.empty(len(which), dtype=np.float32)
    margin = np.empty(len(which), dtype=np.float32)
    cosines = []
    for start in range(0, len(positions), _ROWS_AT_ONCE):
        images = rows.fetch(positions[start : start + _ROWS_AT_ONCE]).astype(np.float64)
        values = logits(images, distinct)[:, text_of.reshape(-1)]
        likely = logits.probabilities(scales.logits(values, logits) if scales else values)
        here = np.flatnonzero((which >= start) & (which < start + len(images)))
        image, category = which[here] - start, column[here]
        own = likely[image, category]
        rivals = likely[image]
        rivals[np.arange(len(here)), category] = 0.0
        probability[here], margin[here] = own, own - rivals.max(axis=1)
        some = images[sampled[start : start + _ROWS_AT_ONCE]]
        cosines.append((some @ distinct.T)[:, text_of.reshape(-1)])
    return probability, margin, np.concatenate(cosines)


def _keep_best(
    which: np.ndarray, column: np.ndarray, rank: np.ndarray, probability: np.ndarray
) -> np.ndarray:
    """For every row, the column that keeps its image: the most probable, then the best rank."""
    order = np.lexsort((column, rank, -probability, which))
    return _first_of_group(which, column, order)


def _keep_last(
    which: np.ndarray, column: np.ndarray, rank: np.ndarray, probability: np.ndarray
) -> np.ndarray:
    return _first_of_group(which, column, np.lexsort((-column, which)))


def _keep_all(
    which: np.ndarray, column: np.ndarray, rank: np.ndarray, probability: np.ndarray
) -> np.ndarray:
    return column


def _failed_threshold(
    config: Config, score: np.ndarray, probability: np.ndarray, margin: np.ndarray
) -> np.ndarray:
    """For every row, the reason of the first threshold that it fails; empty where it passes all."""
    tests = [score < 0, score < config.min_score, probability < config.min_probability,
             margin < config.min_margin]  # fmt: skip
    names = ["negative_score", "below_min_score", "below_min_probability", "below_min_margin"]
    return np.select(tests, names, default="")


def _reasons_by_evidence(config: Config, evidence: Artifact, table: pa.Table) -> np.ndarray:
    """For every row, the reason why the evidence drops it; empty where it doesn't."""
    with evidence.open(EVIDENCE) as file:
        found = read_parquet(file, columns=["images", "thin"]).to_pydict()
    column = table["column"].to_numpy()
    beyond = np.zeros(table.num_rows, dtype=bool)
    if config.at_least is not None:
        # Where the corpus is too small for an estimate, nothing is dropped.
        most = [
            np.inf if count is None else max(count, config.at_least) for count in found["images"]
        ]
        beyond = table["rank"].to_numpy() > np.array(most)[column]
    thin = np.array(found["thin"])[column] & config.drop_thin
    return np.select([thin, beyond], [_THIN, _BEYOND], default="")


def _keepers(
    config: Config,
    failed: np.ndarray,
    which: np.ndarray,
    column: np.ndarray,
    rank: np.ndarray,
    probability: np.ndarray,
) -> np.ndarray:
    """For every row, the column that keeps its image, among the rows that pass; -1 for none."""
    passed = np.flatnonzero(failed == "")
    chosen = np.full(len(which), -1, dtype=column.dtype)
    if not len(passed):
        return chosen
    _, images = np.unique(which[passed], return_inverse=True)
    keep = _KEEPERS[config.overlap]
    chosen[passed] = keep(images, column[passed], rank[passed], probability[passed])
    if config.overlap != "all":  # rows that fail get the keeper of their image, too
        owner = np.full(int(which.max()) + 1, -1, dtype=column.dtype)
        owner[which[passed]] = chosen[passed]
        chosen = owner[which]
    return chosen


def _not_found(
    categories: Sequence[CategoryQuery], table: pa.Table, background: np.ndarray, images: int
) -> list[str]:
    """Names of the categories whose best score is not above the background of the corpus."""
    first = table.filter(pc.equal(table["rank"], 1))
    best = dict(zip(first["column"].to_pylist(), first["score"].to_pylist(), strict=True))
    return [
        category.name
        for place, category in enumerate(categories)
        if not exceeds_background(best[place], background[:, place], images)
    ]


def _first_of_group(which: np.ndarray, column: np.ndarray, order: np.ndarray) -> np.ndarray:
    _, first = np.unique(which[order], return_index=True)
    return np.asarray(column[order][first][which])


_KEEPERS = {"best": _keep_best, "last": _keep_last, "all": _keep_all}


def _ranked_table(
    table: pa.Table,
    categories: Sequence[CategoryQuery],
    probability: np.ndarray,
    margin: np.ndarray,
    keeper: np.ndarray,
    failed: np.ndarray,
    overlap: str,
) -> pa.Table:
    column = table["column"].to_numpy()
    ids = np.array([category.category_id for category in categories], dtype=np.int32)
    names = np.array([category.name for category in categories], dtype=object)
    kept = (keeper == column) & (failed == "")
    lost = np.where(failed == "", _REASONS.get(overlap, ""), failed)
    return pa.table(
        {
            "category_id": ids[column],
            "category": pa.array(names[column], pa.string()),
            "rank": table["rank"],
            "image_id": table["image_id"],
            "score": table["score"],
            "probability": probability,
            "margin": margin,
            "kept": kept,
            "reason": pa.array(np.where(kept, "", lost), pa.string()),
            "kept_by": np.where(keeper < 0, 0, ids[keeper]).astype(np.int32),
        }
    )


def _locations(index: Artifact, positions: np.ndarray, store: ArtifactStore) -> pa.Table:
    """The locations of the bytes of the images at index positions, sorted by image_id."""
    return records_at(index, positions, ["image_id", *_LOCATION], store).sort_by("image_id")
