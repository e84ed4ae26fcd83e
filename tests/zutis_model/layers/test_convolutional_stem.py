import pytest
import torch

from zutis_model.clip.dense import patch_size, patch_tokens
from zutis_model.clip.towers import load_clip
from zutis_model.layers.convolutional_stem import STRIDE, ConvolutionalStem


@pytest.fixture(scope="module")
def stem():
    torch.manual_seed(0)
    return ConvolutionalStem(32).eval()


def random_images(height, width, seed=0):
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("height", "width"), [(8, 8), (48, 64), (23, 41)])
def test_a_token_stands_for_eight_pixels(stem, height, width):
    assert stem(random_images(height, width)).shape == (2, 32, height // STRIDE, width // STRIDE)


def test_pixels_beyond_the_last_whole_patch_are_not_seen(stem):
    images = random_images(30, 45)
    assert torch.equal(stem(images), stem(images[..., :24, :40]))


def test_an_image_moved_by_a_patch_has_its_tokens_moved(stem):
    images = random_images(200, 208)
    here, moved = stem(images[..., :-STRIDE]), stem(images[..., STRIDE:])
    # What lies nearer to an edge than eleven tokens may see the padding there.
    inner = slice(11, -11)
    torch.testing.assert_close(moved[:, :, inner, 11:13], here[:, :, inner, 12:14])


def test_it_is_the_stem_of_our_vit():
    tower = load_clip("made-ViT-8", seed=0).model.visual
    assert isinstance(tower.conv1, ConvolutionalStem)
    assert patch_size(tower) == STRIDE
    assert patch_tokens(tower, random_images(50, 33)).shape == (2, 6, 4, 160)
