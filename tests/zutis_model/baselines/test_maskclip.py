import numpy as np
import pytest
import torch

from tests.support.networks.network_input import as_pixels
from zutis_model.baselines.maskclip import maskclip_tokens
from zutis_model.clip.dense import value_tokens
from zutis_model.clip.towers import load_clip
from zutis_model.zutis.semantic_prediction import semantic_labels


def test_tokens_are_the_values_with_unit_norm(clip_b32, make_image):
    images = clip_b32.normalise(as_pixels(make_image(1, 70, 100), make_image(2, 70, 100)))
    tokens = maskclip_tokens(clip_b32, images)
    assert tokens.shape == (2, 2, 3, 512)
    assert tokens.dtype == torch.float32
    values = value_tokens(clip_b32.model.visual, images)
    cosines = torch.nn.functional.cosine_similarity(tokens, values, dim=-1)
    torch.testing.assert_close(cosines, torch.ones(2, 2, 3))
    torch.testing.assert_close(tokens.norm(dim=-1), torch.ones(2, 2, 3))


def test_input_is_normalised_with_clips_own_statistics(clip_b32, make_image):
    image = make_image(3, 40, 50)
    ours = clip_b32.normalise(as_pixels(image))[0].permute(1, 2, 0).numpy()
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    np.testing.assert_allclose(ours, (image / 255 - mean) / std, atol=1e-5)


def test_a_patch_gets_the_nearest_text(clip_b32, make_image):
    tokens = maskclip_tokens(clip_b32, clip_b32.normalise(as_pixels(make_image(1, 64, 96))))
    texts = tokens[0].flatten(0, 1)  # each patch has a text of its own
    labels = semantic_labels(tokens, texts)
    assert labels[0].flatten().tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.slow
def test_resnets_have_values_too(make_image):
    clip = load_clip("RN50-quickgelu")
    tokens = maskclip_tokens(clip, clip.normalise(as_pixels(make_image(1, 64, 96))))
    assert tokens.shape == (1, 2, 3, 1024)
    assert torch.isfinite(tokens).all()


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(1, 3, 1, 1), "1 x 1 pixels hold no patch"),
        (torch.full((1, 3, 32, 32), torch.nan), "NaN"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), "normalised floats"),
        (torch.zeros(3, 32, 32), r"\[b, 3, h, w\]"),
    ],
)
def test_bad_input(images, message, clip_b32):
    with pytest.raises(ValueError, match=message):
        maskclip_tokens(clip_b32, images)
