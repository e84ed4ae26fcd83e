import numpy as np
import pytest
import torch
from torchvision.transforms.functional import normalize, to_tensor

from zutis_model.layers.normalisation import IMAGENET_MEAN, IMAGENET_STD, normalise


def test_equals_torchvision_bit_for_bit(make_image):
    image = make_image(3, 31, 17)
    expected = normalize(to_tensor(image), IMAGENET_MEAN, IMAGENET_STD)
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    assert torch.equal(normalise(pixels), expected)
    assert torch.equal(normalise(pixels.expand(2, 1, 3, 31, 17))[1, 0], expected)


@pytest.mark.parametrize("wrong", [torch.zeros(3, 4, 4), torch.zeros(4, 4, 3, dtype=torch.uint8)])
def test_other_types_and_layouts_are_refused(wrong):
    with pytest.raises(ValueError, match="uint8"):
        normalise(wrong)
