"""Decisions from corrected files: which label an object is of, and what has become of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, unquote

import numpy as np
from pycocotools import mask as coco_mask

from flows.deciding.reviewed import Reviewed
from storage.corrections.corrected import CorrectedImage, CorrectedObject
from storage.decisions.decision import ACCEPT, REDRAW, REJECT, RENAME, Decision, DrawnMask, now
from storage.decisions.outcomes import Outcome, Outcomes
from storage.images.records import read_parquet
from tasks.stage.layout import RETRIEVED_IMAGES

Missing = Literal["keep", "reject"]
Unchanged = Literal["keep", "accept"]

LEAST_OVERLAP: Final = 0.5
"""IoU from which an object of another category is a label's."""

_SHA256: Final = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_UPLOAD: Final = re.compile(r"^[0-9a-f]{8}-(?=.)")  # Label Studio's beginning of uploaded names


class ImageNames:
    """Finds the images that a file names: by the sha256 of their bytes, or by the names of files.

    Args:
        reviewed: the labels of a build.
    """

    def __init__(self, reviewed: Reviewed) -> None:
        self._build = reviewed.build

    def image_id(self, names: Sequence[str]) -> str:
        """The sha256 of an image that may be none of the build; empty where no name tells."""
        for name in names:
            if found := _SHA256.search(name.lower()):
                return found[0]
        for name in names:
            last = PurePosixPath(_path(name)).name
            for each in (last, unquote(last), _UPLOAD.sub("", last)):
                if found_id := self._by_file.get(each, ""):
                    return found_id
        return ""

    @cached_property
    def _by_file(self) -> dict[str, str]:
        """The retrieved images by their files' names; without those that several have."""
        with self._build.retrieval.open(RETRIEVED_IMAGES) as file:
            rows = read_parquet(file, columns=["image_id", "uri", "member"]).to_pylist()
        found: dict[str, str] = {}
        for row in rows:
            name = PurePosixPath(row["member"] or row["uri"]).name
            found[name] = "" if name in found else row["image_id"]
        return found


def _path(name: str) -> str:
    """The path in a name that may be an address; Label Studio's of files on its server have it as
    the value of `d`."""
    path, _, query = name.replace("\\", "/").partition("?")
    return dict(parse_qsl(query)).get("d", path)


@dataclass
class Corrections:
    """What a file comes to.

    Attributes:
        decisions: to be appended, in this order.
        counts: labels and objects by what became of them.
    """

    decisions: list[Decision] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def corrections(
    images: Sequence[CorrectedImage],
    reviewed: Reviewed,
    outcomes: Outcomes,
    *,
    who: str = "",
    missing: Missing = "keep",
    unchanged: Unchanged = "keep",
) -> Corrections:
    """What the images of a file say of a build's labels.

    Of an image, a label's object is the one of its category that overlaps it most; of labels that
    have none, one of another category that overlaps by `LEAST_OVERLAP` or more. What is decided
    already isn't decided again, so that a file may be imported twice.

    Args:
        images: of the file.
        reviewed: the labels of the build.
        outcomes: of what was decided before.
        who: name of the person.
        missing: what becomes of a label whose image the file has, without an object for it.
        unchanged: what becomes of a label whose object is the same.

    Raises:
        ArtifactError, StorageError: a sample can't be read.
    """
    found = Corrections()
    names = ImageNames(reviewed)
    for image in images:
        image_id = names.image_id(image.names)
        labels = reviewed.of_image(image_id) if image_id else []
        if labels:
            _of_image(image, labels, reviewed, found, missing, unchanged, outcomes, who)
        elif image_id:
            _of_other_image(image_id, image, found, outcomes, who)
        else:
            found.counts["unnamed_images"] += 1
    return found


@dataclass(frozen=True)
class _Label:
    """A label of the build with its mask, and with what is decided about it."""

    image_id: str
    category: str
    mask: DrawnMask
    mask_id: str
    outcome: Outcome

    def decision(self, verdict: str, who: str, **more: Any) -> Decision:
        given = {"category": self.category, "mask": self.mask_id} | more
        return Decision(image_id=self.image_id, verdict=verdict, who=who, when=now(), **given)


def _of_image(
    image: CorrectedImage,
    labels: list[int],
    reviewed: Reviewed,
    found: Corrections,
    missing: Missing,
    unchanged: Unchanged,
    outcomes: Outcomes,
    who: str,
) -> None:
    known = [_label(label, reviewed, outcomes) for label in labels]
    size = (known[0].mask.height, known[0].mask.width)
    objects = [each for each in image.objects if (each.mask.height, each.mask.width) == size]
    found.counts["wrong_size"] += len(image.objects) - len(objects)
    shown = objects if reviewed.labels.samples.objects.several else _merged(objects)
    pairs = dict(_pairs(known, shown))
    found.counts["new_objects"] += len(shown) - len(pairs)
    is_whole = image.is_whole and len(objects) == len(image.objects)
    for at, label in enumerate(known):
        if at in pairs:
            kind, decisions = _changed(label, shown[pairs[at]], unchanged, who)
        elif missing == "reject" and is_whole:
            is_done = label.outcome.rejected
            kind = "as_decided" if is_done else "rejected"
            decisions = [] if is_done else [label.decision(REJECT, who)]
        else:
            kind, decisions = "missing", []
        found.counts[kind] += 1
        found.decisions += decisions


def _merged(objects: Sequence[CorrectedObject]) -> list[CorrectedObject]:
    """One object a category: where an image has one label of a category, what people drew in
    several pieces is its mask."""
    pieces: dict[str, list[DrawnMask]] = {}
    for each in objects:
        pieces.setdefault(each.category, []).append(each.mask)
    return [CorrectedObject(category, _union(masks)) for category, masks in pieces.items()]


def _union(masks: list[DrawnMask]) -> DrawnMask:
    if len(masks) == 1:
        return masks[0]
    encoded: Any = coco_mask.merge([_encoded(mask) for mask in masks])
    return replace(masks[0], counts=encoded["counts"].decode("ascii"))


def _label(label: int, reviewed: Reviewed, outcomes: Outcomes) -> _Label:
    image_id, category = reviewed.labels.image_id(label), reviewed.name_of(label)
    mask = reviewed.drawn_mask(label)
    mask_id = mask.named(image_id)
    outcome = outcomes.of_label(image_id, category, mask_id)
    return _Label(image_id, category, mask, mask_id, outcome)


def _pairs(labels: list[_Label], objects: Sequence[CorrectedObject]) -> Iterator[tuple[int, int]]:
    """Places of labels and of their objects, each once: of the same category first, the closest
    first."""
    if not objects:
        return
    one, other = ([_encoded(each.mask) for each in side] for side in (labels, objects))
    ious = np.asarray(coco_mask.iou(one, other, [0] * len(other))).reshape(len(one), len(other))
    same = np.array([[a.category == b.category for b in objects] for a in labels])
    may_be = same | (ious >= LEAST_OVERLAP)
    order = np.lexsort((-ious.ravel(), ~same.ravel()))
    taken: set[int] = set()
    given: set[int] = set()
    for flat in order[may_be.ravel()[order]]:
        at, to = divmod(int(flat), len(objects))
        if at not in taken and to not in given:
            taken.add(at)
            given.add(to)
            yield at, to


def _encoded(mask: DrawnMask) -> dict[str, Any]:
    return {"size": [mask.height, mask.width], "counts": mask.counts.encode()}


def _changed(
    label: _Label, to: CorrectedObject, unchanged: Unchanged, who: str
) -> tuple[str, list[Decision]]:
    """What became of a label, and the decisions that say so: a redrawn mask is one of the label as
    it was renamed."""
    is_redrawn = to.mask.counts != label.mask.counts
    is_renamed = to.category != label.category
    outcome, wanted = label.outcome, (to.category, to.mask.named(label.image_id))
    is_so = outcome.is_decided and not outcome.rejected
    is_so = is_so and (outcome.category, outcome.mask) == wanted
    if not (is_redrawn or is_renamed):
        if unchanged == "keep":
            return "unchanged", []
        is_done = is_so and outcome.accepted
        return ("as_decided", []) if is_done else ("accepted", [label.decision(ACCEPT, who)])
    if is_so:
        return "as_decided", []
    decisions = [label.decision(RENAME, who, to=to.category)] if is_renamed else []
    if is_redrawn:
        decisions.append(label.decision(REDRAW, who, category=to.category, drawn=to.mask))
    kind = "renamed_and_redrawn" if len(decisions) == 2 else decisions[0].verdict
    return {RENAME: "renamed", REDRAW: "redrawn"}.get(kind, kind), decisions


def _of_other_image(
    image_id: str, image: CorrectedImage, found: Corrections, outcomes: Outcomes, who: str
) -> None:
    """Keep what is drawn of an image that the build does not have, for builds that have it: a
    category's only object, as nothing tells several apart."""
    found.counts["other_images"] += 1
    several = Counter(each.category for each in image.objects)
    for each in image.objects:
        known = outcomes.of_label(image_id, each.category, "").drawn
        if several[each.category] == 1 and known != each.mask:
            found.decisions.append(
                Decision(
                    image_id=image_id, category=each.category, verdict=REDRAW, who=who,
                    drawn=each.mask, when=now(),
                )
            )  # fmt: skip
