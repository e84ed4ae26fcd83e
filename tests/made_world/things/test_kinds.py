"""Every kind can be drawn in many shapes, and no drawing is degenerate."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import label

from made_world.drawing.colours import COLOURS
from made_world.drawing.cutouts import Pose, cut_out
from made_world.drawing.parts import ROLES
from made_world.drawing.rng import Rng
from made_world.things.kinds import (
    BY_NAME,
    CLUTTER,
    KINDS,
    KINDS_AND_SENSES,
    LOOK_ALIKES,
    kind_named,
    sort_of,
    words_of,
)

POSE = Pose(angle=0, flipped=False, stretch=1, side=80, line=0)


def drawings(kind, count=40):
    return [BY_NAME[kind].draw(Rng(1, number)) for number in range(count)]


def test_there_are_at_least_sixteen_kinds_with_names_of_their_own():
    assert len(set(KINDS)) == len(KINDS) >= 16
    assert all(set(BY_NAME[kind].colours) <= set(COLOURS) for kind in KINDS)
    with pytest.raises(ValueError, match="no kind 'unicorn'"):
        kind_named("unicorn")


def test_every_kind_of_the_vocabulary_has_a_look_alike_that_is_none():
    assert set(LOOK_ALIKES.values()) == set(KINDS)
    assert not set(LOOK_ALIKES) & set(KINDS_AND_SENSES)
    assert BY_NAME.keys() == {*KINDS_AND_SENSES, *LOOK_ALIKES, *CLUTTER}
    assert [sort_of(kind) for kind in ("star", "tower crane", "starfish", "ball")] == [
        "kind", "kind", "look-alike", "clutter",
    ]  # fmt: skip


def test_two_pairs_of_kinds_share_a_name():
    assert words_of(KINDS) == KINDS
    assert words_of(KINDS_AND_SENSES) == (*KINDS, "bat", "crane")
    assert words_of(("wooden bat", "bat animal")) == ("bat",)


@pytest.mark.parametrize("kind", BY_NAME)
def test_drawings_of_a_kind_are_sound(kind):
    for parts in drawings(kind):
        assert not parts[0].within
        assert any(part.role == "main" for part in parts)
        assert all(part.role in ROLES for part in parts)
        points = np.concatenate([ring for part in parts for ring in part.outlines])
        assert np.isfinite(points).all()
        assert all(len(ring) >= 3 for part in parts for ring in part.outlines)


@pytest.mark.parametrize("kind", BY_NAME)
def test_a_drawing_is_of_one_piece(kind):
    for parts in drawings(kind):
        pieces, count = label(cut_out(parts, POSE).coverage >= 0.25)
        sizes = np.bincount(pieces.ravel())[1:]
        assert sizes.max() >= 0.9 * sizes.sum(), f"{count} pieces"


@pytest.mark.parametrize("kind", [*KINDS_AND_SENSES, *LOOK_ALIKES])
def test_the_shapes_of_a_kind_vary(kind):
    shapes = {cut_out(parts, POSE).mask.tobytes() for parts in drawings(kind)}
    assert len(shapes) >= 30


@pytest.mark.parametrize("kind", ["key", "cup", "gear", "ladder"])
def test_open_shapes_have_see_through_holes(kind):
    open_ones = 0
    for parts in drawings(kind):
        outside = label(~cut_out(parts, POSE).mask)[1]
        open_ones += outside > 1
    assert open_ones >= (0 if kind == "ladder" else 36)
    if kind == "ladder":
        shares = [cut_out(parts, POSE).mask.mean() for parts in drawings(kind)]
        assert max(shares) < 0.75
