import pytest
import torch
from safetensors.torch import load_file, save_file

from zutis_model.checkpoints import identify_checkpoint, load_checkpoint
from zutis_model.clip.towers import load_clip
from zutis_model.encoders.dense_vit import load_dense_vit
from zutis_model.layers.synthetic_weights import synthetic_weight

pytestmark = pytest.mark.slow

PUBLISHED = {
    "selfmask": ("selfmask", "SelfMask (ViT-S/8, 20 queries)"),
    "zutis_vit_b_16": ("zutis", "ZUTIS (ViT-B-16-quickgelu, 100 queries)"),
    "zutis_vit_b_32": ("zutis", "ZUTIS (ViT-B-32-quickgelu, 100 queries)"),
    "clip_vit_b_32": (
        "clip",
        "CLIP (ViT-B-32 or ViT-B-32-quickgelu: the weights leave it open)",
    ),
}


def by_recipe(listing):
    """A published file's content: names and shapes from the list, weights from the recipe."""
    return {
        name: torch.from_numpy(synthetic_weight(name, shape)) if shape else torch.tensor(4.6)
        for name, shape, _ in listing
    }


@pytest.fixture(scope="module")
def weights(parity_json):
    """State dict of each published model, made when it is first asked for."""
    made = {}

    def of(name):
        if name not in made:
            made[name] = by_recipe(parity_json(f"{name}_state_dict"))
        return made[name]

    return of


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_are_identified(name, weights):
    found = identify_checkpoint(weights(name))
    assert (found.kind, found.description) == PUBLISHED[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_load_strictly_and_save_back(name, weights, tmp_path):
    save_file(weights(name), tmp_path / "published.safetensors")
    model = load_checkpoint(load_file(tmp_path / "published.safetensors"))
    module = model.model if PUBLISHED[name][0] == "clip" else model
    saved = module.state_dict()
    assert saved.keys() == weights(name).keys()
    for key, tensor in weights(name).items():
        assert torch.equal(saved[key], tensor), key


def test_selfmask_with_ten_queries(weights):
    ten = dict(weights("selfmask"))
    ten["query_embed"] = ten["query_embed"][:10].clone()
    assert identify_checkpoint(ten).description == "SelfMask (ViT-S/8, 10 queries)"
    assert load_checkpoint(ten).query_embed.shape == (10, 384)


def test_openais_own_numbers_tell_the_activation(weights):
    openai = dict(weights("clip_vit_b_32"))
    openai |= {name: torch.tensor(1) for name in ("input_resolution", "context_length")}
    openai["vocab_size"] = torch.tensor(49408)
    found = identify_checkpoint(openai)
    assert found.architecture == "ViT-B-32-quickgelu"
    assert "as OpenAI published it" in found.description
    assert "QuickGELU" in repr(load_checkpoint(openai).model.visual)


@pytest.mark.parametrize(
    "architecture",
    ["vit_small_patch8_224.dino", "vit_small_patch16_224.dino", "deit_small_distilled_patch16_224"],
)
def test_dense_encoders(architecture):
    network = load_dense_vit(architecture)
    found = identify_checkpoint(network.transformer.state_dict())
    assert (found.kind, found.architecture) == ("dense_vit", architecture)


def test_deit_is_dino_with_a_classifier():
    content = load_dense_vit("deit_small_patch16_224").transformer.state_dict()
    content |= {"head.weight": torch.zeros(1000, 384), "head.bias": torch.zeros(1000)}
    found = identify_checkpoint(content)
    assert found.architecture == "deit_small_patch16_224"
    assert load_checkpoint(content, found).encode(torch.zeros(1, 3, 16, 16)).shape[-1] == 384


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("selfmask", "decoder.norm.weight"),
        ("zutis_vit_b_32", "encoder.proj"),
        ("zutis_vit_b_32", "ffn1.layers.1.bias"),
        ("clip_vit_b_32", "visual.proj"),
        ("clip_vit_b_32", "ln_final.weight"),
    ],
)
def test_missing_and_unexpected_keys_are_named(name, key, weights):
    content = dict(weights(name))
    del content[key]
    content["stray.weight"] = torch.zeros(3)
    found = identify_checkpoint(content)
    assert found.kind == PUBLISHED[name][0]
    with pytest.raises(ValueError, match=r"1 missing \(" + key + r"\); 1 unexpected \(stray"):
        load_checkpoint(content, found)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "its 0 keys begin with nothing"),
        ({"a": torch.zeros(1), "b": torch.zeros(1)}, "its 2 keys begin with a, b"),
        ({"query_embed": torch.zeros(5, 7)}, "begin with query_embed"),
        ({"patch_embed.proj.weight": torch.zeros(384, 3, 14, 14)}, "begin with patch_embed"),
        ({"visual.trunk.weight": torch.zeros(3)}, "begin with visual.trunk"),
    ],
)
def test_unknown_models(content, message):
    with pytest.raises(ValueError, match=message):
        identify_checkpoint(content)


def test_open_clips_other_layout():
    # A text tower in a module of its own, as open_clip has it for some models.
    content = load_clip("ViT-S-32-alt").model.state_dict()
    moved = {
        name if name.startswith(("visual.", "logit_scale")) else f"text.{name}": tensor
        for name, tensor in content.items()
    }
    assert identify_checkpoint(moved).architecture == identify_checkpoint(content).architecture
