"""Average precision and recall of instance masks, as COCO defines them (Lin et al. 2014).

The numbers are pycocotools' (`COCOeval` for `segm`), which the ZUTIS reference uses too
(`trainer.py`, `compute_coco_metrics`; `coco20k_eval.py`). Two things differ from the way the
reference calls it: areas of predictions are those of their masks (the reference passes boxes,
which `COCO.loadRes` then takes for the areas, and moves objects between small, medium and large),
and nothing is printed.

Dimensions:
    t     thresholds of the intersection over union: 0.5, 0.55, ... 0.95
    r     recall levels: 0, 0.01, ... 1
    k     categories
    a     areas: all, small, medium, large
    m     most predictions an image and category: 1, 10, 100
"""

from __future__ import annotations

import contextlib
import io
import math
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

FloatArray = npt.NDArray[np.float64]

_ALL, _SMALL, _MEDIUM, _LARGE = range(4)
_MOST_1, _MOST_10, _MOST_100 = range(3)
_IOU_50, _IOU_75 = 0, 5

# pycocotools prints. Redirecting is of the whole process: two threads that did it at a time could
# each take the other's buffer for the real output and put that back.
_redirecting = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class CocoScores:
    """COCO's twelve numbers, in 0..1; NaN where no annotated object has that size.

    Attributes:
        ap: average precision: mean over IoU thresholds 0.5 to 0.95, recall levels and categories.
        ap50, ap75: the same at one threshold.
        ap_small, ap_medium, ap_large: of objects below 32², up to 96², and above, in pixels.
        ar_1, ar_10, ar_100: average recall with at most so many predictions an image and category.
        ar_small, ar_medium, ar_large: with at most 100, by size.
    """

    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    ar_1: float
    ar_10: float
    ar_100: float
    ar_small: float
    ar_medium: float
    ar_large: float


@dataclass(frozen=True, kw_only=True, eq=False)
class CocoEvaluation:
    """The measurements of pycocotools, from which the scores of any categories follow.

    Attributes:
        precision: float64 [t, r, k, a, m] in 0..1; -1 where there is no annotated object. k is 1 if
            categories were not distinguished.
        recall: float64 [t, k, a, m], likewise.
    """

    precision: FloatArray
    recall: FloatArray

    def scores(self, category_ids: Iterable[int] | None = None) -> CocoScores:
        """Scores over some categories, as an evaluation of these alone would give them.

        Args:
            category_ids: in 1..k; None: all.

        Raises:
            ValueError: a category out of range.
        """
        columns = self._columns(category_ids)
        precision, recall = self.precision[:, :, columns], self.recall[:, columns]
        best = precision[..., _MOST_100]
        return CocoScores(
            ap=_mean_of_measured(best[..., _ALL]),
            ap50=_mean_of_measured(best[_IOU_50, ..., _ALL]),
            ap75=_mean_of_measured(best[_IOU_75, ..., _ALL]),
            ap_small=_mean_of_measured(best[..., _SMALL]),
            ap_medium=_mean_of_measured(best[..., _MEDIUM]),
            ap_large=_mean_of_measured(best[..., _LARGE]),
            ar_1=_mean_of_measured(recall[..., _ALL, _MOST_1]),
            ar_10=_mean_of_measured(recall[..., _ALL, _MOST_10]),
            ar_100=_mean_of_measured(recall[..., _ALL, _MOST_100]),
            ar_small=_mean_of_measured(recall[..., _SMALL, _MOST_100]),
            ar_medium=_mean_of_measured(recall[..., _MEDIUM, _MOST_100]),
            ar_large=_mean_of_measured(recall[..., _LARGE, _MOST_100]),
        )

    def class_ap(self) -> FloatArray:
        """Average precision of each category: float64 [k]; NaN where no object is annotated."""
        best = self.precision[..., _ALL, _MOST_100]
        return np.array([_mean_of_measured(best[:, :, k]) for k in range(best.shape[2])])

    def _columns(self, category_ids: Iterable[int] | None) -> list[int]:
        count = self.precision.shape[2]
        chosen = range(1, count + 1) if category_ids is None else list(category_ids)
        for category in chosen:
            if not 1 <= category <= count:
                raise ValueError(f"category_ids must be in 1..{count}, got {category}")
        return [category - 1 for category in chosen]


def evaluate_instances(
    images: Iterable[Mapping[str, Any]],
    annotations: Iterable[Mapping[str, Any]],
    predictions: Iterable[Mapping[str, Any]],
    num_categories: int,
    *,
    class_agnostic: bool = False,
) -> CocoEvaluation:
    """Compare predicted masks with annotated ones.

    Only the 100 best predictions of an image and category count. Annotated crowds are neither found
    nor missed: a prediction inside one is left out. In an image without any object every prediction
    is a false positive.

    Args:
        images: all that were evaluated: `id` (a number of its own), `height`, `width`.
        annotations: in any order: `image_id`, `category_id` in 1..k, `segmentation` (run-length
            encoding with compressed `counts`, of the image's size), `area` (pixels, which decides
            whether the object is small), and `iscrowd`, without which it is none.
        predictions: in any order; of equal scores the first wins: `image_id`, `category_id`,
            `segmentation`, `score` (finite). Anything else in them, such as `bbox`, is ignored.
        num_categories: k.
        class_agnostic: compare masks of all categories, as is usual for methods without
            categories (LOST, FreeSOLO, CutLER on COCO-20K). The 100 best are of the image then.

    Raises:
        ValueError: no image, an image twice, an unknown image or category, an encoding of another
            size than its image, or a score that isn't finite.
    """
    sizes = _sizes(images)
    # Copied, since pycocotools writes into them.
    annotated = [_annotation(row) for row in annotations]
    found = [_prediction(row) for row in predictions]
    for name, rows in (("annotations", annotated), ("predictions", found)):
        _check_rows(name, rows, sizes, num_categories)
    with _quiet():
        evaluation = COCOeval(
            _coco(sizes, annotated, num_categories), _coco(sizes, found, num_categories), "segm"
        )
        evaluation.params.useCats = int(not class_agnostic)
        evaluation.evaluate()
        evaluation.accumulate()
    return CocoEvaluation(precision=evaluation.eval["precision"], recall=evaluation.eval["recall"])


def _sizes(images: Iterable[Mapping[str, Any]]) -> dict[int, tuple[int, int]]:
    """(height, width) by image."""
    sizes: dict[int, tuple[int, int]] = {}
    for image in images:
        if image["id"] in sizes:
            raise ValueError(f"images must have ids of their own, got {image['id']} twice")
        sizes[image["id"]] = (image["height"], image["width"])
    if not sizes:
        raise ValueError("images must not be empty")
    return sizes


def _annotation(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "image_id": row["image_id"],
        "category_id": row["category_id"],
        "segmentation": dict(row["segmentation"]),
        "area": row["area"],
        "iscrowd": int(row.get("iscrowd", 0)),
    }


def _prediction(row: Mapping[str, Any]) -> dict[str, Any]:
    if not math.isfinite(row["score"]):
        raise ValueError(f"predictions must have finite scores, got {row['score']}")
    return {
        "image_id": row["image_id"],
        "category_id": row["category_id"],
        "segmentation": dict(row["segmentation"]),
        "area": float(coco_mask.area(row["segmentation"])),
        "iscrowd": 0,
        "score": row["score"],
    }


def _check_rows(
    name: str,
    rows: Sequence[Mapping[str, Any]],
    sizes: Mapping[int, tuple[int, int]],
    num_categories: int,
) -> None:
    for row in rows:
        image_id, category_id = row["image_id"], row["category_id"]
        if image_id not in sizes:
            raise ValueError(f"{name} must be of the images, got image_id {image_id}")
        if not 1 <= category_id <= num_categories:
            raise ValueError(
                f"{name} must have categories in 1..{num_categories}, got {category_id}"
            )
        # Of encodings that differ in size, pycocotools gives an overlap of -1 without a warning.
        size = tuple(row["segmentation"]["size"])
        if size != sizes[image_id]:
            raise ValueError(
                f"{name} must have masks of their image's size {list(sizes[image_id])}, "
                f"got {list(size)} in image {image_id}"
            )


def _coco(
    sizes: Mapping[int, tuple[int, int]], rows: Iterable[dict[str, Any]], num_categories: int
) -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": [{"id": key, "height": h, "width": w} for key, (h, w) in sizes.items()],
        "categories": [{"id": number} for number in range(1, num_categories + 1)],
        # From 1: a match with number 0 would be taken for none.
        "annotations": [{**row, "id": number} for number, row in enumerate(rows, start=1)],
    }
    coco.createIndex()
    return coco


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with _redirecting, contextlib.redirect_stdout(io.StringIO()):
        yield


def _mean_of_measured(values: FloatArray) -> float:
    """The mean without the undefined values of pycocotools, -1."""
    measured = values[values > -1]
    return float(measured.mean()) if measured.size else math.nan
