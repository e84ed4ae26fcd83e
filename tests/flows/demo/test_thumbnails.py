"""Thumbnails of the demonstration's page: from the first rank to the last, and the worst."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from flows.demo.scores import Retrieved, ScoredMask
from flows.demo.thumbnails import galleries, worst


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
        kind=kind, rank=rank, jpeg=jpeg(), mask=square(), truth=square(side=10), iou=iou,
        right=right,
    )  # fmt: skip


def test_a_gallery_goes_from_the_first_rank_to_the_last():
    retrieved = [
        Retrieved(kind="bell", rank=i + 1, image_id=str(i), file=f"{i}.jpg", right=i != 3)
        for i in range(20)
    ]
    masks = [scored(rank=i + 1, right=i != 19) for i in range(20)]
    [gallery] = galleries(retrieved, masks)
    assert gallery.name == "bell"
    assert gallery.note == "precision 0.95, mean IoU 0.50"
    assert len(gallery.thumbnails) == 8
    assert gallery.thumbnails[0].caption == "rank 1, IoU 0.50"
    assert gallery.thumbnails[-1].caption == "rank 20, IoU 0.50"
    assert [picture.right for picture in gallery.thumbnails] == [True] * 7 + [False]


def test_a_kind_whose_images_others_kept_has_an_empty_gallery():
    retrieved = [Retrieved(kind="key", rank=1, image_id="0", file="0.jpg", right=True)]
    [gallery] = galleries(retrieved, [])
    assert (gallery.note, gallery.thumbnails) == ("precision 1.00", ())


def test_the_worst_come_first():
    masks = [scored(kind=f"kind {i}", iou=i / 40) for i in reversed(range(40))]
    images = worst(masks)
    assert [picture.caption for picture in images[:2]] == ["kind 0, IoU 0.00", "kind 1, IoU 0.03"]
    assert len(images) == 24
