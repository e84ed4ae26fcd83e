import pytest
import torch

from zutis_model.clip.architectures import (
    architectures_of_clip,
    architectures_of_image_tower,
    quickgelu,
)


def shapes(listing):
    """A state dict of the right names and shapes that takes no memory."""
    return {name: torch.empty(shape, device="meta") for name, shape, _ in listing}


def test_openai_clip(parity_json):
    weights = shapes(parity_json("clip_vit_b_32_state_dict"))
    found = architectures_of_clip(weights)
    assert found == ["ViT-B-32", "ViT-B-32-quickgelu"]
    assert quickgelu(found) == "ViT-B-32-quickgelu"


@pytest.mark.parametrize("patch", [16, 32])
def test_image_tower_of_published_zutis(patch, parity_json):
    weights = {
        name.removeprefix("encoder."): tensor
        for name, tensor in shapes(parity_json(f"zutis_vit_b_{patch}_state_dict")).items()
        if name.startswith("encoder.")
    }
    found = architectures_of_image_tower(weights)
    assert found[0] == f"ViT-B-{patch}"
    assert quickgelu(found) == f"ViT-B-{patch}-quickgelu"


def test_resnet():
    with torch.device("meta"):
        from open_clip.modified_resnet import ModifiedResNet

        tower = ModifiedResNet([6, 8, 18, 8], 768, 48, image_size=384, width=96)
    found = architectures_of_image_tower(tower.state_dict())
    assert found == ["RN50x16", "RN50x16-quickgelu"]


def test_other_models_have_no_clip_architecture(parity_json):
    assert architectures_of_clip(shapes(parity_json("selfmask_state_dict"))) == []
    assert architectures_of_image_tower({}) == []
    assert quickgelu([]) is None
    odd = shapes(parity_json("clip_vit_b_32_state_dict"))
    odd["visual.proj"] = torch.empty(768, 77, device="meta")
    assert architectures_of_clip(odd) == []


def test_the_text_tower_counts(parity_json):
    # roberta-ViT-B-32 and others have the image tower of ViT-B-32 and another text tower.
    weights = shapes(parity_json("clip_vit_b_32_state_dict"))
    tower = {k.removeprefix("visual."): v for k, v in weights.items() if k.startswith("visual.")}
    assert set(architectures_of_clip(weights)) < set(architectures_of_image_tower(tower))


def test_missing_keys_still_leave_a_name(parity_json):
    weights = shapes(parity_json("clip_vit_b_32_state_dict"))
    for name in ("visual.proj", "token_embedding.weight", "visual.conv1.weight"):
        del weights[name]
    assert "ViT-B-32-quickgelu" in architectures_of_clip(weights)


def test_our_own():
    from zutis_model.clip.towers import load_clip

    weights = load_clip("made-ViT-8").model.state_dict()
    assert architectures_of_clip(weights) == ["made-ViT-8"]
