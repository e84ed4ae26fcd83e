import math

import pytest
import torch

from zutis_model.layers.sine_position import sine_position


def test_channels_are_y_then_x_and_sine_and_cosine_in_turns():
    position = sine_position(2, 3, 8).unflatten(0, (2, 3))
    assert position.dtype == torch.float32
    y, x = 1 / 2 * 2 * math.pi, 2 / 3 * 2 * math.pi  # of the first row, the second column
    frequency = 10_000 ** (-2 / 4)
    expected = [f(a * s) for a in (y, x) for s in (1, frequency) for f in (math.sin, math.cos)]
    torch.testing.assert_close(position[0, 1], torch.tensor(expected), rtol=0, atol=1e-5)


def test_rows_share_x_and_columns_share_y():
    position = sine_position(4, 5, 12).unflatten(0, (4, 5))
    assert torch.equal(position[0, :, 6:], position[3, :, 6:])
    assert torch.equal(position[:, 0, :6], position[:, 4, :6])


def test_width_must_be_a_multiple_of_four():
    with pytest.raises(ValueError, match="multiple of 4, got 6"):
        sine_position(2, 2, 6)
