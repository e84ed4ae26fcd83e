import pytest
import torch

from zutis_model.layers.vit_positions import resized_position_embedding


@pytest.fixture
def learned():
    """Position embedding of one or two tokens and a 4 x 4 grid."""
    return lambda prefix: torch.randn(1, prefix + 16, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("prefix", [1, 2])
@pytest.mark.parametrize("size", [(4, 4), (2, 8), (16, 1)])
def test_kept_where_the_number_of_patches_is_that_of_training(prefix, size, learned):
    position = learned(prefix)
    assert resized_position_embedding(position, *size, prefix=prefix) is position


@pytest.mark.parametrize("prefix", [1, 2])
def test_other_grids_are_resized_and_the_first_tokens_kept(prefix, learned):
    position = learned(prefix)
    resized = resized_position_embedding(position, 2, 9, prefix=prefix)
    assert resized.shape == (1, prefix + 18, 6)
    assert torch.equal(resized[:, :prefix], position[:, :prefix])


def test_rows_come_first():
    # Channel 0 says the row, channel 1 the column; resized grids must still grow that way.
    rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")
    grid = torch.stack([rows, columns], dim=-1).reshape(1, 16, 2)
    position = torch.cat([torch.zeros(1, 1, 2), grid], dim=1)
    resized = resized_position_embedding(position, 6, 3)[0, 1:].reshape(6, 3, 2)
    assert (resized[1:, :, 0] > resized[:-1, :, 0]).all()
    assert (resized[:, 1:, 1] > resized[:, :-1, 1]).all()
