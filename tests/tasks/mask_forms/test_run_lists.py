"""Run lengths in reading order, and Label Studio's bytes, read back bit by bit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from tasks.mask_forms.run_lists import brush_bytes, reading_order_runs
from tests.support.files.made_exports import box, ring


def decoded(data: list[int]) -> npt.NDArray[np.uint8]:
    """The values in bytes of @thi.ng/rle-pack, by its description."""
    bits = "".join(f"{byte:08b}" for byte in data)
    place = 0

    def read(count: int) -> int:
        nonlocal place
        place += count
        return int(bits[place - count : place], 2)

    total, width = read(32), read(5) + 1
    lengths = [read(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < total:
        repeated = read(1)
        count = read(lengths[read(2)]) + 1
        values += [read(width)] * count if repeated else [read(width) for _ in range(count)]
    return np.array(values, dtype=np.uint8)


@pytest.mark.parametrize(
    "mask",
    [
        ring((40, 50)),
        box((300, 300), 0, 0, 300, 300),
        np.zeros((7, 9), np.bool_),
        np.random.default_rng(0).random((30, 41)) > 0.5,
    ],
)
def test_every_mask_comes_back(mask: npt.NDArray[np.bool_]) -> None:
    pixels = decoded(brush_bytes(mask)).reshape(*mask.shape, 4)
    for channel in range(4):
        assert np.array_equal(pixels[:, :, channel], mask * np.uint8(255))


def test_runs_begin_with_background() -> None:
    assert reading_order_runs(np.array([[False, True], [True, False]])) == [1, 2, 1]
    assert reading_order_runs(np.array([[True, True], [False, True]])) == [0, 2, 1, 1]
    assert reading_order_runs(np.zeros((2, 2), np.bool_)) == [4]
