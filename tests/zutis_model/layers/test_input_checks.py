import pytest
import torch

from zutis_model.layers.input_checks import check_images


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([torch.zeros(3, 4, 4), torch.zeros(3, 5, 5)], "one tensor .* got list"),
        (torch.zeros(3, 4, 4), r"got \[3, 4, 4\]"),
        (torch.zeros(1, 4, 4, 4), r"got \[1, 4, 4, 4\]"),
        (torch.zeros(1, 3, 0, 4), r"got \[1, 3, 0, 4\]"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), "got torch.uint8"),
    ],
)
def test_shape_and_type(images, message):
    with pytest.raises(ValueError, match=message):
        check_images(images)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_values_are_looked_at_outside_of_training(value):
    images = torch.zeros(2, 3, 4, 4)
    check_images(images)
    images[1, 2, 3, 0] = value
    with pytest.raises(ValueError, match="NaN or infinite"):
        check_images(images)
    check_images(images, training=True)  # the loss shows it


def test_half_precision_and_empty_batches_pass():
    check_images(torch.zeros(1, 3, 1, 1, dtype=torch.bfloat16))
    check_images(torch.zeros(0, 3, 8, 8))
