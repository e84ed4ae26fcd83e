"""Choices depend on the key alone and keep to their ranges."""

from __future__ import annotations

import numpy as np
import pytest

from made_world.drawing.rng import Rng


def test_the_same_key_gives_the_same_choices_and_another_key_others():
    def drawn(*key):
        rng = Rng(*key)
        return [rng.between(0, 1), rng.whole(0, 1000), rng.one_of("abcdefgh"), *rng.permutation(9)]

    assert drawn(1, 2, 3) == drawn(1, 2, 3)
    assert drawn(1, 2, 3) != drawn(1, 2, 4)
    assert drawn(1, 2, 3) != drawn(1, 3, 3)
    assert drawn(1, 2, 3) != drawn(2, 2, 3)


def test_choices_keep_to_their_ranges():
    rng = Rng(5)
    assert {rng.whole(2, 4) for _ in range(200)} == {2, 3, 4}
    assert {rng.one_of("xyz") for _ in range(200)} == set("xyz")
    assert all(-1 <= rng.between(-1, 3) < 3 for _ in range(200))
    assert sorted(rng.permutation(50)) == list(range(50))
    assert not any(rng.chance(0) for _ in range(50))
    assert all(rng.chance(1) for _ in range(50))


def test_the_numbers_are_those_of_the_bit_generator():
    assert Rng(7, 8, 9).between(0, 1) == np.random.default_rng([7, 8, 9]).random()


def test_negative_keys_are_refused():
    with pytest.raises(ValueError, match="must not be negative"):
        Rng(3, -1)
