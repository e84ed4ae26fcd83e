import numpy as np
import pytest

from zutis_model.refinement.mask_statistics import mask_statistics


def test_measures():
    mask = np.zeros((4, 6), dtype=bool)
    mask[0, 0] = mask[1, 1] = True  # touch at a corner: one component
    mask[3, 5] = True
    unrefined = mask.copy()
    unrefined[2, 2] = True

    statistics = mask_statistics(mask, unrefined)

    assert statistics.area_fraction == 3 / 24
    assert statistics.border_contact == 2 / 16
    assert statistics.components == 2
    assert statistics.refiner_agreement == 3 / 4


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (3, 5), (2, 2)])
def test_full_and_empty(shape):
    full, empty = np.ones(shape, dtype=bool), np.zeros(shape, dtype=bool)

    statistics = mask_statistics(full, empty)
    assert statistics.area_fraction == statistics.border_contact == statistics.components == 1
    assert statistics.refiner_agreement == 0.0

    statistics = mask_statistics(empty, empty)
    assert statistics.area_fraction == statistics.border_contact == statistics.components == 0
    assert statistics.refiner_agreement == 1.0


def test_values_are_plain_python():
    statistics = mask_statistics(np.ones((2, 2), dtype=bool), np.ones((2, 2), dtype=bool))
    assert type(statistics.area_fraction) is type(statistics.border_contact) is float
    assert type(statistics.components) is int
    assert type(statistics.refiner_agreement) is float


@pytest.mark.parametrize(
    ("mask", "unrefined"),
    [
        (np.zeros((2, 2)), np.zeros((2, 2), dtype=bool)),
        (np.zeros((2, 2), dtype=bool), np.zeros((2, 3), dtype=bool)),
        (np.zeros((0, 2), dtype=bool), np.zeros((0, 2), dtype=bool)),
        (np.zeros(4, dtype=bool), np.zeros(4, dtype=bool)),
    ],
)
def test_wrong_arrays_are_refused(mask, unrefined):
    with pytest.raises(ValueError, match="mask"):
        mask_statistics(mask, unrefined)
