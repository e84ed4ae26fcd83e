"""Polygons of masks: rasterisers give the same pixels back."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask
from scipy.ndimage import gaussian_filter, label

from tasks.mask_forms.outlines import corner_polygons, pixel_polygon
from tests.support.files.made_exports import box, ring

Mask = npt.NDArray[np.bool_]


def made_masks(count: int) -> list[Mask]:
    """Blots from single pixels to noise with hundreds of holes."""
    rng = np.random.default_rng(0)
    masks = []
    for _ in range(count):
        height, width = rng.integers(1, 40, 2)
        field = gaussian_filter(rng.random((height, width)), rng.choice([0, 0.7, 1.5]))
        masks.append(field >= np.quantile(field, rng.uniform(0, 0.95)))
    return masks


def by_pycocotools(mask: Mask) -> Mask:
    outlines = [polygon.ravel().tolist() for polygon in corner_polygons(mask)]
    found = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(outlines, *mask.shape)))
    return np.asarray(found, dtype=np.bool_)


def by_pillow(mask: Mask) -> Mask:
    """The pixels that a polygon through pixels covers, its outline included."""
    corners = [(x, y) for x, y in pixel_polygon(mask).tolist()]
    image = Image.new("1", mask.shape[::-1])
    ImageDraw.Draw(image).polygon(corners + corners[: 2 - len(corners)], fill=1, outline=1)
    return np.asarray(image)


def pieces(mask: Mask, *, diagonal: bool) -> int:
    return int(label(mask, np.ones((3, 3)) if diagonal else None)[1])


def test_pycocotools_gives_every_mask_back() -> None:
    for mask in made_masks(200):
        assert np.array_equal(by_pycocotools(mask), mask)
        assert len(corner_polygons(mask)) == pieces(mask, diagonal=False)


def test_a_polygon_through_pixels_gives_masks_of_one_piece_back() -> None:
    whole = [mask for mask in made_masks(200) if pieces(mask, diagonal=True) == 1]
    assert len(whole) > 20
    for mask in whole:
        assert np.array_equal(by_pillow(mask), mask)


def test_opencv_gives_masks_of_one_piece_back() -> None:
    cv2 = pytest.importorskip("cv2")
    for mask in made_masks(200):
        found = np.zeros(mask.shape, np.uint8)
        cv2.fillPoly(found, [pixel_polygon(mask).astype(np.int32)], 1)
        assert (found[mask] == 1).all()
        if pieces(mask, diagonal=True) == 1:
            assert np.array_equal(found == 1, mask)


def test_pieces_are_joined_by_lines_of_one_pixel() -> None:
    mask = box((40, 60), 5, 5, 20, 20) | box((40, 60), 5, 30, 20, 50)
    found = by_pillow(mask)
    assert found[mask].all()
    assert (found & ~mask).sum() == 10


def test_holes_and_corners() -> None:
    mask = ring((50, 60))
    assert len(corner_polygons(mask)) == 1
    square = corner_polygons(box((9, 9), 2, 3, 5, 7))
    assert sorted(square[0].tolist()) == [[3, 2], [3, 5], [7, 2], [7, 5]]
    assert pixel_polygon(box((9, 9), 4, 6, 5, 7)).tolist() == [[6, 4]]
    assert corner_polygons(np.zeros((3, 3), np.bool_)) == []
    assert pixel_polygon(np.zeros((3, 3), np.bool_)).shape == (0, 2)
