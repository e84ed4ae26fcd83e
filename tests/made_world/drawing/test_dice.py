"""Choices depend on the key alone and keep to their ranges."""

from __future__ import annotations

import numpy as np
import pytest

from made_world.drawing.dice import Dice


def test_the_same_key_gives_the_same_choices_and_another_key_others():
    def drawn(*key):
        dice = Dice(*key)
        return [dice.between(0, 1), dice.whole(0, 1000), dice.one_of("abcdefgh"), *dice.mixed(9)]

    assert drawn(1, 2, 3) == drawn(1, 2, 3)
    assert drawn(1, 2, 3) != drawn(1, 2, 4)
    assert drawn(1, 2, 3) != drawn(1, 3, 3)
    assert drawn(1, 2, 3) != drawn(2, 2, 3)


def test_choices_keep_to_their_ranges():
    dice = Dice(5)
    assert {dice.whole(2, 4) for _ in range(200)} == {2, 3, 4}
    assert {dice.one_of("xyz") for _ in range(200)} == set("xyz")
    assert all(-1 <= dice.between(-1, 3) < 3 for _ in range(200))
    assert sorted(dice.mixed(50)) == list(range(50))
    assert not any(dice.chance(0) for _ in range(50))
    assert all(dice.chance(1) for _ in range(50))


def test_the_numbers_are_those_of_the_bit_generator():
    assert Dice(7, 8, 9).between(0, 1) == np.random.default_rng([7, 8, 9]).random()


def test_negative_keys_are_refused():
    with pytest.raises(ValueError, match="must not be negative"):
        Dice(3, -1)
