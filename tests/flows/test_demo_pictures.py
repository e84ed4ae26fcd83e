"""Pictures of the demonstration's page: masks that can be seen, and the worst ones first."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from flows.demo_pictures import draw_mask, galleries, worst
from flows.demo_scores import Retrieved, ScoredMask


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


def opened(image: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image))).astype(int)


def test_outside_is_dimmed_and_the_edge_is_yellow():
    drawn = opened(draw_mask(np.full((40, 60, 3), 200, np.uint8), square()))
    assert drawn.shape == (128, 192, 3)
    assert abs(drawn[48, 64] - 200).max() < 12  # inside: as it was
    assert abs(drawn[100, 150] - 70).max() < 12  # outside
    red, green, blue = drawn[48, 33]  # the left edge
    assert red > 180
    assert green > 150
    assert blue < 120


def test_the_truth_is_outlined_only_on_request():
    pixels = np.full((40, 60, 3), 200, np.uint8)
    without = opened(draw_mask(pixels, square()))
    with_truth = opened(draw_mask(pixels, square(), square(side=10)))
    row, column = 48 - 2, 40  # the truth's lower edge, in the middle of the mask
    assert with_truth[row, column, 2] > 180
    assert with_truth[row, column, 0] < 120
    assert abs(without[row, column] - 200).max() < 12


def test_a_gallery_goes_from_the_first_rank_to_the_last():
    retrieved = [
        Retrieved(kind="bell", rank=i + 1, image_id=str(i), file=f"{i}.jpg", right=i != 3)
        for i in range(20)
    ]
    masks = [scored(rank=i + 1, right=i != 19) for i in range(20)]
    [gallery] = galleries(retrieved, masks)
    assert gallery.name == "bell"
    assert gallery.note == "precision 0.95, mean IoU 0.50"
    assert len(gallery.pictures) == 8
    assert gallery.pictures[0].caption == "rank 1, IoU 0.50"
    assert gallery.pictures[-1].caption == "rank 20, IoU 0.50"
    assert [picture.right for picture in gallery.pictures] == [True] * 7 + [False]


def test_a_kind_whose_pictures_others_kept_has_an_empty_gallery():
    retrieved = [Retrieved(kind="key", rank=1, image_id="0", file="0.jpg", right=True)]
    [gallery] = galleries(retrieved, [])
    assert (gallery.note, gallery.pictures) == ("precision 1.00", ())


def test_the_worst_come_first():
    masks = [scored(kind=f"kind {i}", iou=i / 40) for i in reversed(range(40))]
    pictures = worst(masks)
    assert [picture.caption for picture in pictures[:2]] == ["kind 0, IoU 0.00", "kind 1, IoU 0.03"]
    assert len(pictures) == 24
