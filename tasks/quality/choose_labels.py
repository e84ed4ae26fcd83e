"""The stage `choose_labels`: which labels are trained on, and why the others are not.

Rules in their order; a label is left out by the first that it fails:

0. `rejected`: somebody rejected it; or `other_category`: gave it to a category that the vocabulary
   lacks. Where somebody gave it another category or mask, its quality, which was of the old ones,
   is not known, and it counts for its new category.
1. `leak`: its image is, or nearly is, in a set that is kept out.
2. `below_min_quality`: its quality is below the least.
3. `near_duplicate`: another image of a group of near-duplicates stands for the group in this
   category: of those that are left, the one of the best quality and then of the best rank. This
   comes after the first two, so that what they leave out stands for no group.
4. `below_kept_share`: it is not among the best of its category, of those that are left.

A label whose quality could not be computed fails neither 2 nor 4; the counts tell how many there
are. Where labels were not judged, those of the retrieval take their place, or those of the objects
that were named, without a quality.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from storage.artifacts.fingerprints import Recipe, unless_default
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.errors.exceptions import ConfigError, CorpusError
from storage.errors.sentences import counted_kinds
from storage.images.records import read_parquet, write_parquet
from tasks.stage.contract import Progress
from tasks.stage.layout import (
    CHOSEN_LABELS,
    DECIDED,
    DUPLICATES,
    LABELS,
    LEAKS,
    MASKS,
    NAMED_OBJECTS,
    RETRIEVAL,
)

NAME = "choose_labels"
VERSION = 1

REJECTED, OTHER_CATEGORY = "rejected", "other_category"
LEAK = "leak"
BELOW_MIN_QUALITY = "below_min_quality"
NEAR_DUPLICATE = "near_duplicate"
BELOW_KEPT_SHARE = "below_kept_share"

_LABEL = ["category_id", "category", "rank"]
_JUDGED = ["image_id", "mask_id", *_LABEL, "category_probability", "estimated_iou", "quality"]
_SCORES, _NAMES = "score_labels", "name_objects"
_STAGES = {_NAMES: "named", "retrieve": "retrieval"}  # other stages that labels come from


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the choice.

    Attributes:
        min_quality: least quality, 0..1.
        keep: share of each category's labels that is kept, the best, above 0 and at most 1.
    """

    min_quality: float = 0.0
    keep: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.min_quality <= 1:
            raise ConfigError(f"min_quality is {self.min_quality}: choose 0 to 1.")
        if not 0 < self.keep <= 1:
            raise ConfigError(
                f"keep is {self.keep:.0%}, which leaves no label: choose above 0 to 100 %."
            )


@dataclass(frozen=True)
class Inputs:
    """Labels, and what is known of their images.

    Attributes:
        labels: of `score_labels`; or of `retrieve` or `name_objects`, where they are not judged.
        masks: of the images of a retrieval, of which those without a usable mask are no labels.
        duplicates: of `find_duplicates` or `import_duplicates`.
        leaks: of `find_leaks`.
        decided: of `import_decisions`.
    """

    labels: ArtifactRef
    masks: tuple[ArtifactRef, ...] = ()
    duplicates: ArtifactRef | None = None
    leaks: ArtifactRef | None = None
    decided: ArtifactRef | None = None


def _recipe(config: Config, inputs: Inputs) -> Recipe:
    known = {"duplicates": inputs.duplicates, "leaks": inputs.leaks, "decided": inputs.decided}
    labels: dict[str, Any] = {"labels": inputs.labels.key}
    if inputs.labels.stage != _SCORES:
        labels = {
            _STAGES[inputs.labels.stage]: inputs.labels.key,
            "masks": sorted(ref.key for ref in inputs.masks),
        }
    return Recipe(
        stage=NAME,
        version=VERSION,
        config=unless_default(config, "min_quality", "keep"),
        inputs=labels | {name: ref.key for name, ref in known.items() if ref},
    )


def locate(config: Config, inputs: Inputs, store: ArtifactStore) -> ArtifactRef:
    return ArtifactRef(NAME, _recipe(config, inputs).key())


def run(config: Config, inputs: Inputs, store: ArtifactStore, progress: Progress) -> Artifact:
    """Publish `chosen.parquet`: every label, with its quality and its two factors where labels were
    judged, `kept`, and the `reason` why it is left out (empty where it is kept).

    Where leaks were looked for, `keep_out` has the name of the set that has the label's image, the
    first of several; where near-duplicates were, `duplicate_of` has the image that stands for the
    label's; both are empty where there is none. The notes repeat what was found in all images.

    Raises:
        CorpusError: there are labels, and none is left.
    """
    labels = _labels(inputs, store)
    choice = _Choice(labels)
    notes: dict[str, Any] = {}
    if inputs.decided:
        choice.follow_decisions(_decided(inputs.decided, store))
    if inputs.leaks:
        leaks = store.get(inputs.leaks)
        choice.leave_out_leaks(_by_image(leaks, LEAKS, "keep_out"))
        notes["keep_out"] = leaks.notes["keep_out"]
    choice.leave_out_poor(config.min_quality)
    if inputs.duplicates:
        duplicates = store.get(inputs.duplicates)
        choice.leave_out_duplicates(_by_image(duplicates, DUPLICATES, "group"))
        notes["duplicates"] = duplicates.counts
    choice.leave_out_beyond(config.keep)

    kept = choice.reasons == ""
    names, numbers = np.unique(choice.reasons[~kept], return_counts=True)
    left_out = dict(zip(names.tolist(), numbers.tolist(), strict=True))
    if labels.num_rows and not kept.any():
        raise CorpusError(_nothing_left(choice.quality, left_out, config))
    progress.advance(labels.num_rows)
    counts: dict[str, Any] = {"labels": labels.num_rows, "kept": int(np.count_nonzero(kept))}
    if "quality" in labels.column_names:
        counts["without_quality"] = labels["quality"].null_count
    with store.attempt(locate(config, inputs, store)) as attempt:
        with attempt.create(CHOSEN_LABELS) as file:
            write_parquet(choice.table(), file)
        return store.publish(
            attempt, _recipe(config, inputs), counts={**counts, "left_out": left_out}, notes=notes
        )


def _labels(inputs: Inputs, store: ArtifactStore) -> pa.Table:
    """The labels that were judged; or those that can be, from a retrieval."""
    artifact = store.get(inputs.labels)
    if inputs.labels.stage == _SCORES:
        with artifact.open(LABELS) as file:
            return read_parquet(file, columns=_JUDGED)
    if inputs.labels.stage == _NAMES:
        with artifact.open(NAMED_OBJECTS) as file:
            named = read_parquet(file, columns=["image_id", "mask_id", *_LABEL, "reason"])
        return named.filter(pc.equal(named["reason"], "")).drop_columns(["reason"])
    with artifact.open(RETRIEVAL) as file:
        rows = read_parquet(file, columns=["image_id", *_LABEL, "kept"])
    rows = rows.filter(rows["kept"]).drop_columns(["kept"])
    usable = rows.filter(pc.is_in(rows["image_id"], value_set=_masked(inputs.masks, store)))
    return usable.sort_by([("image_id", "ascending"), ("category_id", "ascending")])


def _masked(refs: Sequence[ArtifactRef], store: ArtifactStore) -> pa.Array:
    """The image_ids that have a usable mask."""
    usable = [pa.chunked_array([], pa.string())]
    for ref in refs:
        with store.get(ref).open(MASKS) as file:
            table = read_parquet(file, columns=["image_id", "reject_reason"])
        usable.append(table.filter(pc.equal(table["reject_reason"], ""))["image_id"])
    return pa.concat_tables([pa.table({"id": ids}) for ids in usable])["id"].combine_chunks()


def _decided(ref: ArtifactRef, store: ArtifactStore) -> list[dict[str, Any]]:
    with store.get(ref).open(DECIDED) as file:
        rows: list[dict[str, Any]] = read_parquet(file).to_pylist()
    return rows


def _by_image(artifact: Artifact, name: str, column: str) -> dict[str, str]:
    """A column of a table by its image_id; of several rows of an image the first."""
    with artifact.open(name) as file:
        table = read_parquet(file, columns=["image_id", column])
    pairs = zip(table["image_id"].to_pylist(), table[column].to_pylist(), strict=True)
    return dict(reversed(list(pairs)))


def _nothing_left(
    quality: npt.NDArray[np.float64], left_out: dict[str, int], config: Config
) -> str:
    if left_out.keys() <= {REJECTED, OTHER_CATEGORY}:
        return (
            f"No label of {len(quality):,} is left ({counted_kinds(left_out)}): check the file of "
            "--decisions, or leave the option out."
        )
    if LEAK not in left_out and not np.isnan(quality).all():
        return (
            f"No label of {len(quality):,} has a quality of {config.min_quality:g} or more (the "
            f"best has {np.nanmax(quality):.2f}): lower --min-quality."
        )
    lower = "lower --min-quality, or " if BELOW_MIN_QUALITY in left_out else ""
    return (
        f"No label of {len(quality):,} is left ({counted_kinds(left_out)}): {lower}give a corpus "
        "that has more than the images of --keep-out."
    )


class _Choice:
    """Labels that are left out one rule after the other.

    Attributes:
        reasons: [n] objects, why each label is left out; empty where it is kept.
        quality: float64 [n], NaN where there is none.
    """

    def __init__(self, labels: pa.Table) -> None:
        self._labels = labels
        self._images, self._image = np.unique(labels["image_id"].to_numpy(), return_inverse=True)
        self._category = labels["category_id"].to_numpy()
        self._rank = labels["rank"].to_numpy()
        self.quality = np.full(labels.num_rows, np.nan)
        if "quality" in labels.column_names:
            self.quality = np.asarray(labels["quality"].to_numpy(), dtype=np.float64)
        self.reasons = np.full(labels.num_rows, "", dtype=object)
        self._columns: dict[str, npt.NDArray[np.object_]] = {}

    def table(self) -> pa.Table:
        """The labels with `kept`, `reason` and what the rules tell."""
        table = self._labels.append_column("kept", pa.array(self.reasons == ""))
        for name, values in {"reason": self.reasons, **self._columns}.items():
            table = table.append_column(name, pa.array(values, pa.string()))
        return table

    def follow_decisions(self, rows: Sequence[dict[str, Any]]) -> None:
        """Leave out what was rejected; take categories and masks that were changed for what they
        are. `rows` as `import_decisions` has them."""
        by_mask = "mask_id" in self._labels.column_names
        masks = self._labels["mask_id"].to_pylist() if by_mask else [""] * len(self.reasons)
        labels = zip(
            self._labels["image_id"].to_pylist(), self._category.tolist(), masks, strict=True
        )
        places = {label: place for place, label in enumerate(labels)}
        self._category = self._category.copy()
        for row in rows:
            mask = row["mask_id"] if by_mask else ""
            place = places.get((row["image_id"], row["category_id"], mask))
            if place is None:
                continue
            self.reasons[place] = row["reason"]
            if row["to_category_id"] or row["to_mask_id"]:
                self.quality[place] = np.nan
            self._category[place] = row["to_category_id"] or self._category[place]

    def leave_out_leaks(self, keep_out: dict[str, str]) -> None:
        """Leave out images of sets; `keep_out` has the set by image_id."""
        names = self._of_images(keep_out)
        self.reasons[(self.reasons == "") & (names != "")] = LEAK
        self._columns["keep_out"] = names

    def leave_out_poor(self, min_quality: float) -> None:
        self.reasons[(self.reasons == "") & (self.quality < min_quality)] = BELOW_MIN_QUALITY

    def leave_out_duplicates(self, groups: dict[str, str]) -> None:
        """Keep the labels of one image of each group and category; `groups` by image_id."""
        group = self._of_images(groups)
        among = np.flatnonzero((self.reasons == "") & (group != ""))
        stands_for = self._best_images(among, np.unique(group[among], return_inverse=True)[1])
        others = self._image[among] != stands_for
        self.reasons[among[others]] = NEAR_DUPLICATE
        originals = np.full(len(self.reasons), "", dtype=object)
        originals[among[others]] = self._images[stands_for[others]]
        self._columns["duplicate_of"] = originals

    def leave_out_beyond(self, keep: float) -> None:
        """Keep the best share of each category's labels, of those with a quality."""
        for number in np.unique(self._category):
            judged = np.flatnonzero(
                (self._category == number) & (self.reasons == "") & ~np.isnan(self.quality)
            )
            order = judged[np.lexsort((self._rank[judged], -self.quality[judged]))]
            # Not more than is wanted by a rounding error: 0.7 of 10 are 7.
            wanted = math.ceil(round(keep * len(order), 9))
            self.reasons[order[wanted:]] = BELOW_KEPT_SHARE

    def _best_images(
        self, among: npt.NDArray[np.int64], group: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """The image that stands for the category and group of each of these labels, by number."""
        quality = np.nan_to_num(self.quality[among], nan=-1.0)
        image, category = self._image[among], self._category[among]
        order = np.lexsort((image, self._rank[among], -quality, group, category))
        new = np.diff(category[order], prepend=-1) != 0
        new |= np.diff(group[order], prepend=-1) != 0
        first = np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))
        best = np.empty_like(image)
        best[order] = image[order[first]]
        return best

    def _of_images(self, known: dict[str, str]) -> npt.NDArray[np.object_]:
        """What is known of each label's image; empty where nothing is."""
        values = np.array([known.get(image, "") for image in self._images], dtype=object)
        return values[self._image]
