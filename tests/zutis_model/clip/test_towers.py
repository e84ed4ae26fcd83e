import hashlib
import logging

import numpy as np
import pytest
import skimage.data
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image

from zutis_model.baselines.maskclip import maskclip_tokens
from zutis_model.clip.dense import check_is_dense, patch_tokens, value_tokens
from zutis_model.clip.towers import Clip, load_clip

PHOTOGRAPHS = ("astronaut", "coffee", "chelsea")
SMALL = "RN50-quickgelu"


@pytest.fixture(scope="module")
def photographs(parity_json):
    facts = {i["name"]: i["sha256"] for i in parity_json("clip_image")["images"]}
    arrays = {name: getattr(skimage.data, name)() for name in PHOTOGRAPHS}
    for name, array in arrays.items():
        assert hashlib.sha256(array.tobytes()).hexdigest() == facts[name]
    return [Image.fromarray(arrays[name]) for name in PHOTOGRAPHS]


@pytest.fixture(scope="module")
def pixel_values(clip_b32, photographs):
    return torch.stack([clip_b32.preprocess(image) for image in photographs])


@pytest.fixture(scope="module")
def text(parity_json):
    """Categories, and prompts in category-major order."""
    facts = parity_json("text")
    categories = facts["categories"]
    return categories, [t.format(name) for name in categories for t in facts["templates"]]


def test_facts(clip_b32, parity_json):
    assert clip_b32.embedding_dim == 512
    assert clip_b32.image_size == (224, 224)
    expected = {name: shape for name, shape, _ in parity_json("clip_vit_b_32_state_dict")}
    assert {k: list(v.shape) for k, v in clip_b32.model.state_dict().items()} == expected


def test_preprocessing_agrees_with_the_reference(pixel_values, parity_arrays, parity_json):
    assert pixel_values.dtype == torch.float32
    assert pixel_values.shape == (3, 3, 224, 224)
    expected = parity_arrays("clip_image")["preprocessed_every8"]
    np.testing.assert_allclose(pixel_values[:, :, ::8, ::8], expected, rtol=0, atol=1e-6)
    sums = pixel_values.double().sum(dim=(1, 2, 3)).tolist()
    assert sums == pytest.approx(parity_json("clip_image")["preprocessed_sum"], abs=0.05)


def test_image_embeddings_agree_with_the_reference(clip_b32, pixel_values, parity_arrays):
    actual = clip_b32.embed_images(pixel_values)
    assert actual.dtype == torch.float32
    expected = parity_arrays("clip_image")["vit_b_32_image_embeddings"]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_image_embeddings_agree_with_the_reference_b16(pixel_values, parity_arrays):
    actual = load_clip("ViT-B-16-quickgelu").embed_images(pixel_values)
    expected = parity_arrays("clip_image")["vit_b_16_image_embeddings"]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)


def test_tokens_equal_the_references(clip_b32, text, parity_arrays):
    categories, prompts = text
    np.testing.assert_array_equal(clip_b32.tokenize(prompts), parity_arrays("text")["tokens"])
    expected = parity_arrays("text")["name_tokens"]
    np.testing.assert_array_equal(clip_b32.tokenize(categories), expected)


def test_text_embeddings_agree_with_the_reference(clip_b32, text, parity_arrays):
    categories, prompts = text
    expected = parity_arrays("text")

    embeddings = clip_b32.embed_prompts(prompts, batch_size=4)
    np.testing.assert_allclose(embeddings, expected["prompt_embeddings"], rtol=0, atol=5e-5)
    averaged = torch.stack([clip_b32.ensemble(e) for e in embeddings.split(3)])
    np.testing.assert_allclose(averaged, expected["averaged_embeddings"], rtol=0, atol=1e-6)

    names = clip_b32.embed_prompts(categories)
    np.testing.assert_allclose(names, expected["name_embeddings_raw"], rtol=0, atol=5e-5)
    unit = F.normalize(names, dim=-1)
    np.testing.assert_allclose(unit, expected["network_text_embeddings"], rtol=0, atol=1e-6)


def test_batch_equals_singles(clip_b32, pixel_values):
    batch = clip_b32.embed_images(pixel_values[:2])
    singles = torch.cat([clip_b32.embed_images(pixel_values[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(batch, singles, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (500, 20)])
def test_small_and_long_images(size, clip_b32):
    pixel_values = clip_b32.preprocess(Image.new("RGB", size, (10, 200, 30)))
    assert pixel_values.shape == (3, 224, 224)
    assert torch.isfinite(clip_b32.embed_images(pixel_values[None])).all()


def test_no_prompts_give_no_rows(clip_b32):
    assert clip_b32.embed_prompts([]).shape == (0, 512)


def test_long_prompts_are_cut(clip_b32):
    tokens = clip_b32.tokenize(["a photo of a cat " * 100])
    assert tokens.shape == (1, 77)
    assert tokens[0, -1] == clip_b32.tokenize(["cat"]).max()  # the end mark has the largest id


@pytest.mark.parametrize(("words", "lost"), [(3, 0), (75, 0), (76, 1), (90, 15)])
def test_words_that_are_cut_off_are_named(words, lost, clip_b32):
    prompt = " ".join(["owl"] * (words - 1) + ["kite"])
    assert clip_b32.cut_off(prompt) == " ".join(prompt.split()[words - lost :])


def test_wrong_inputs_are_refused(clip_b32):
    with pytest.raises(ValueError, match="RGB"):
        clip_b32.preprocess(Image.new("L", (5, 5)))
    with pytest.raises(ValueError, match="batch_size"):
        clip_b32.embed_prompts(["cat"], batch_size=0)
    for wrong in (torch.zeros(0, 4), torch.zeros(4)):
        with pytest.raises(ValueError, match=r"\[n, d\]"):
            Clip.ensemble(wrong)


def test_openai_state_dicts_load_as_they_come(clip_b32, pixel_values):
    """Half precision, extra entries, and quick GELU under open_clip's plain name."""
    weights = {k: v.half() for k, v in clip_b32.model.state_dict().items()}
    weights["logit_scale"] = torch.tensor(100.0).log()
    extras = {"input_resolution": 224, "context_length": 77, "vocab_size": 49408}
    loaded = load_clip("ViT-B-32", {**weights, **{k: torch.tensor(v) for k, v in extras.items()}})

    assert loaded.logit_scale == pytest.approx(100.0, rel=1e-5)
    # Exact GELU would differ by 1e-3, half-precision weights alone differ by less.
    expected = clip_b32.embed_images(pixel_values)
    torch.testing.assert_close(loaded.embed_images(pixel_values), expected, atol=5e-4, rtol=0)


def test_data_parallel_prefix_is_dropped(clip_b32):
    weights = clip_b32.model.state_dict()
    loaded = load_clip("ViT-B-32-quickgelu", {f"module.{k}": v for k, v in weights.items()})
    assert all(torch.equal(v, weights[k]) for k, v in loaded.model.state_dict().items())


@pytest.mark.slow
def test_bfloat16_is_close(clip_b32, pixel_values, text):
    fast = Clip(
        clip_b32.model,
        clip_b32.tokenize,
        embedding_dim=512,
        device=clip_b32.device,
        precision="bfloat16",
    )
    actual = fast.embed_images(pixel_values)
    assert actual.dtype == torch.float32
    assert F.cosine_similarity(actual, clip_b32.embed_images(pixel_values)).min() > 0.999
    prompts = text[1]
    actual = fast.embed_prompts(prompts)
    assert actual.dtype == torch.float32
    assert F.cosine_similarity(actual, clip_b32.embed_prompts(prompts)).min() > 0.99


def test_another_models_state_dict_is_refused(clip_b32):
    with pytest.raises(ValueError, match=r"CLIP ViT-B-16.*visual\.conv1\.weight"):
        load_clip("ViT-B-16-quickgelu", clip_b32.model.state_dict())
    with pytest.raises(ValueError, match=r"unexpected \(query_embed\)"):
        load_clip("ViT-B-32", {"query_embed": torch.zeros(20, 384)})


@pytest.mark.usefixtures("no_network")
def test_unknown_architectures_are_refused():
    with pytest.raises(ValueError, match=r"similar ones: .*ViT-B-32"):
        load_clip("ViT-B/32")
    with pytest.raises(ValueError, match="unknown CLIP architecture"):
        load_clip("hf-hub:somebody/something")
    with pytest.raises(ValueError, match="downloaded"):
        load_clip("ViT-B-16-SigLIP")
    with pytest.raises(ValueError, match="downloaded"):
        load_clip("roberta-ViT-B-32")
    with pytest.raises(ValueError, match="precision"):
        load_clip("ViT-B-32", precision="float16")


@pytest.mark.slow
@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("architecture", [SMALL, "ViT-M-32", "MobileCLIP-S1"])
def test_other_towers_build_without_network_or_log(architecture, photographs, caplog):
    """A ResNet (buffers), a plain ViT, and a timm tower with a text module of its own."""
    handlers = list(logging.getLogger().handlers)
    clip = load_clip(architecture, seed=1)
    assert logging.getLogger().handlers == handlers
    assert not caplog.records

    image = clip.embed_images(clip.preprocess(photographs[0])[None])
    prompts = clip.embed_prompts(["a cat"])
    assert image.shape == prompts.shape == (1, clip.embedding_dim)
    assert torch.isfinite(image).all()
    assert torch.isfinite(prompts).all()


@pytest.mark.parametrize(
    ("pixel_values", "message"),
    [
        (torch.zeros(2, 3, 1, 1), r"must be \[n, 3, 224, 224\], got \[2, 3, 1, 1\]"),
        (torch.full((1, 3, 224, 224), torch.nan), "NaN"),
        (torch.zeros(1, 3, 224, 224, dtype=torch.uint8), "normalised floats"),
        ([torch.zeros(3, 224, 224)], "one tensor"),
    ],
)
def test_bad_pixel_values(pixel_values, message, clip_b32):
    with pytest.raises(ValueError, match=message):
        clip_b32.embed_images(pixel_values)


# --- the demonstration's architecture -----------------------------------------------------------


@pytest.fixture(scope="module")
def made_clip():
    return load_clip("made-ViT-8")


def test_made_clip_is_small(made_clip):
    assert made_clip.embedding_dim == 128
    assert made_clip.image_size == (128, 128)
    # In float16: the package ships it.
    assert sum(2 * tensor.numel() for tensor in made_clip.model.state_dict().values()) < 6e6


def test_made_clip_embeds_images_and_any_words(made_clip):
    images = made_clip.embed_images(made_clip.preprocess(Image.new("RGB", (160, 96)))[None])
    texts = made_clip.embed_prompts(["a photo of a star.", "snow☃man", ""])
    assert images.shape == (1, 128)
    assert texts.shape == (3, 128)
    assert torch.isfinite(texts).all()
    assert made_clip.tokenize(["a star"]).shape == (1, 32)


def test_made_clip_reads_a_text_alone_as_among_longer_ones(made_clip):
    texts = [
        "a star",
        "an image of a large red house next to a small tree on a striped background",
    ]
    together = made_clip.embed_prompts(texts)
    alone = torch.cat([made_clip.embed_prompts([text]) for text in texts])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    with torch.inference_mode():
        whole = made_clip.model.encode_text(made_clip.tokenize(texts))
    torch.testing.assert_close(together, whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("size", "grid"), [((96, 96), (12, 12)), ((101, 157), (12, 19))])
def test_made_clip_has_patch_tokens(size, grid, made_clip):
    tower = check_is_dense(made_clip.model.visual)
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert patch_tokens(tower, images).shape == (2, *grid, 160)
        assert value_tokens(tower, images).shape == (2, *grid, 128)
    tokens = maskclip_tokens(made_clip, images)
    torch.testing.assert_close(tokens.norm(dim=-1), torch.ones(2, *grid))
