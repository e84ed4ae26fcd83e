"""What the truth adds to the page on a build, and thumbnails of the worst masks."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from PIL import Image

from flows.demo.scores import Retrieved, ScoredMask
from flows.demo.thumbnails import true_labels, with_truth, worst
from flows.reports.parts import CategoryGallery
from tests.support.made_reports import empty_report


def jpeg(height=40, width=60) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (200, 200, 200)).save(file, "JPEG")
    return file.getvalue()


def square(height=40, width=60, side=20):
    mask = np.zeros((height, width), dtype=np.bool_)
    mask[5 : 5 + side, 10 : 10 + side] = True
    return mask


def scored(kind="bell", rank=1, iou=0.5, right=True) -> ScoredMask:
    return ScoredMask(
        kind=kind, image_id="0", rank=rank, jpeg=jpeg(), mask=square(), truth=square(side=10),
        iou=iou, right=right,
    )  # fmt: skip


def test_the_truth_is_told_beside_each_kind():
    retrieved = [
        Retrieved(kind="bell", rank=i + 1, image_id=str(i), file=f"{i}.jpg", right=i != 3)
        for i in range(20)
    ]
    galleries = tuple(
        CategoryGallery(name=name, note="4 labels", thumbnails=()) for name in ("bell", "more")
    )
    report = replace(empty_report(), galleries=galleries, commands=(("a", "b"),))
    told = with_truth(report, retrieved, [scored(rank=i + 1) for i in range(20)])
    assert [gallery.note for gallery in told.galleries] == [
        "4 labels, precision 0.95, mean IoU 0.50", "4 labels",
    ]  # fmt: skip
    assert told.commands == ()


def test_labels_have_their_truth_by_kind_and_image():
    [(key, known)] = true_labels([scored(right=False)]).items()
    assert key == ("bell", "0")
    assert (known.iou, known.right) == (0.5, False)


def test_the_worst_come_first():
    masks = [scored(kind=f"kind {i}", iou=i / 40) for i in reversed(range(40))]
    images = worst(masks)
    assert [picture.caption for picture in images[:2]] == ["kind 0, IoU 0.00", "kind 1, IoU 0.03"]
    assert len(images) == 24
