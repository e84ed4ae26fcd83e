import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it

from zutis_model.training.criterion import LossWeights, criterion, semantic_cross_entropy


@pytest.fixture(params=["a", "b"])
def case(request, parity_json, parity_arrays):
    """Arguments of the criterion, and what the reference says of them."""
    (facts,) = [c for c in parity_json("criterion") if c["case"] == request.param]
    prefix = f"{request.param}_"
    arrays = {
        name.removeprefix(prefix): torch.from_numpy(array)
        for name, array in parity_arrays("criterion").items()
        if name.startswith(prefix)
    }
    weights = {
        name.removeprefix("weight_").removesuffix("_loss"): weight
        for name, weight in facts["weights"].items()
    }
    names = ("mask_proposals", "patch_tokens", "text_embeddings", "semantic_masks")
    arguments = {name: arrays[name] for name in names}
    arguments["instance_masks"] = [arrays[f"instance_masks_{i}"] for i in range(facts["b"])]
    arguments["weights"] = LossWeights(**weights)
    return arguments, arrays, facts


def small_batch(**changes):
    """Two images, one layer dimension of two, five categories."""
    generator = torch.Generator().manual_seed(1)

    def rand(*shape):
        return torch.rand(*shape, generator=generator)

    arguments = {
        "mask_proposals": rand(2, 2, 4, 6, 7),
        "patch_tokens": F.normalize(rand(2, 6, 7, 8) - 0.5, dim=-1),
        "text_embeddings": F.normalize(rand(5, 8) - 0.5, dim=-1),
        "semantic_masks": (rand(2, 13, 17) * 5).to(torch.int64),
        "instance_masks": [rand(3, 13, 17) > 0.5, rand(1, 13, 17) > 0.5],
    }
    return arguments | changes


def relative_difference(actual, expected):
    return ((actual - expected).norm() / expected.norm()).item()


def test_agrees_with_the_reference(case):
    arguments, expected, facts = case
    proposals = arguments["mask_proposals"].requires_grad_()
    tokens = arguments["patch_tokens"].requires_grad_()

    losses = criterion(**arguments)
    losses.loss.backward()

    for name in ("loss", "ce_loss", "mask_loss"):
        assert getattr(losses, name).item() == pytest.approx(facts[name], rel=0, abs=1e-5)
    assert relative_difference(proposals.grad, expected["grad_mask_proposals"]) < 1e-5
    assert relative_difference(tokens.grad, expected["grad_patch_tokens"]) < 1e-5

    last = max(i for i in range(facts["b"]) if i not in facts["empty_images"])
    assert losses.matches[last].query_indices[-1].tolist() == facts["query_indices"]
    assert losses.matches[last].instance_indices[-1].tolist() == facts["instance_indices"]
    for image in facts["empty_images"]:
        assert losses.matches[image].query_indices.numel() == 0
        assert not proposals.grad[image].any()


def test_defaults_are_the_references():
    assert LossWeights() == LossWeights(ce=1.0, mask=1.0, dice=1.0, bce=1.0)


def test_weights():
    weights = LossWeights(ce=0.5, mask=2.0, dice=0.7, bce=1.3)
    losses = criterion(**small_batch(), weights=weights)
    expected = 2.0 * losses.mask_loss + 0.5 * losses.ce_loss
    assert losses.loss.item() == pytest.approx(expected.item())


@pytest.mark.parametrize("name", ["ce", "mask", "dice", "bce"])
@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_wrong_weights_are_refused(name, weight):
    with pytest.raises(ValueError, match=f"weight {name} must be"):
        LossWeights(**{name: weight})


def test_one_layer_may_come_without_its_dimension():
    proposals = small_batch()["mask_proposals"][:, :1]
    with_dimension = criterion(**small_batch(mask_proposals=proposals))
    without = criterion(**small_batch(mask_proposals=proposals[:, 0]))
    assert torch.equal(with_dimension.loss, without.loss)
    assert without.matches[0].query_indices.shape == (1, 3)


def test_cross_entropy_of_projected_tokens_is_that_of_upsampled_tokens():
    batch = small_batch()
    labels = batch["semantic_masks"].clone()
    labels[0, :4] = 255

    ce = criterion(**small_batch(semantic_masks=labels)).ce_loss

    tokens = F.interpolate(
        batch["patch_tokens"].double().permute(0, 3, 1, 2), size=(13, 17), mode="bilinear"
    )
    logits = (tokens.permute(0, 2, 3, 1) @ batch["text_embeddings"].double().T).flatten(0, 2)
    expected = F.cross_entropy(logits, labels.flatten(), ignore_index=255)
    assert ce.item() == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_integer_types_of_labels(dtype):
    expected = criterion(**small_batch()).loss
    labels = small_batch()["semantic_masks"].to(dtype)
    assert torch.equal(criterion(**small_batch(semantic_masks=labels)).loss, expected)


def test_ignore_index():
    labels = small_batch()["semantic_masks"]
    labels[:, 5:] = -1
    cropped = labels.clone()
    cropped[labels == -1] = 255
    with_minus_one = criterion(**small_batch(semantic_masks=labels), ignore_index=-1)
    with_255 = criterion(**small_batch(semantic_masks=cropped))
    assert torch.equal(with_minus_one.ce_loss, with_255.ce_loss)
    assert with_255.ce_loss != criterion(**small_batch()).ce_loss


def test_all_pixels_ignored():
    batch = small_batch(semantic_masks=torch.full((2, 13, 17), 255, dtype=torch.uint8))
    tokens = batch["patch_tokens"].requires_grad_()
    losses = criterion(**batch)
    losses.loss.backward()
    assert losses.ce_loss.item() == 0.0
    assert losses.loss == losses.mask_loss > 0
    assert not tokens.grad.any()


def test_batch_without_objects_still_trains_the_encoder():
    empty = torch.zeros(2, 13, 17, dtype=torch.bool)
    batch = small_batch(instance_masks=[empty, empty[:0]])
    proposals = batch["mask_proposals"].requires_grad_()
    tokens = batch["patch_tokens"].requires_grad_()
    losses = criterion(**batch)
    losses.loss.backward()
    assert losses.mask_loss.item() == 0.0
    assert losses.loss == losses.ce_loss
    assert not proposals.grad.any()
    assert tokens.grad.any()


@pytest.mark.parametrize("name", ["mask_proposals", "patch_tokens", "text_embeddings"])
def test_nan_gives_a_nan_loss(name):
    batch = small_batch()
    batch[name].flatten()[3] = torch.nan
    losses = criterion(**batch)
    assert losses.loss.isnan()
    assert losses.mask_loss.isnan() == (name == "mask_proposals")
    assert losses.ce_loss.isnan() == (name != "mask_proposals")


def test_half_precision_is_promoted():
    batch = small_batch()
    floats = ("mask_proposals", "patch_tokens", "text_embeddings")
    half = {name: batch[name].bfloat16() for name in floats}
    losses = criterion(**small_batch(**half))
    expected = criterion(**small_batch(**{name: x.float() for name, x in half.items()}))
    assert losses.loss.dtype == torch.float32
    assert torch.equal(losses.loss, expected.loss)

    half["patch_tokens"].requires_grad_()
    criterion(**small_batch(**half)).loss.backward()
    assert half["patch_tokens"].grad.dtype == torch.bfloat16


def test_autocast_changes_nothing():
    expected = criterion(**small_batch())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = criterion(**small_batch())
    assert torch.equal(losses.ce_loss, expected.ce_loss)
    assert torch.equal(losses.mask_loss, expected.mask_loss)


def test_float64_stays():
    batch = small_batch()
    floats = ("mask_proposals", "patch_tokens", "text_embeddings")
    losses = criterion(**small_batch(**{name: batch[name].double() for name in floats}))
    assert losses.loss.dtype == torch.float64
    assert losses.loss.item() == pytest.approx(criterion(**batch).loss.item(), abs=1e-5)


def test_no_gradient_is_needed():
    expected = criterion(**small_batch()).loss
    with torch.inference_mode():
        assert torch.equal(criterion(**small_batch()).loss, expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask_proposals": torch.rand(4, 6, 7)}, r"mask_proposals must be float \[b, l, q"),
        ({"mask_proposals": torch.ones(2, 4, 6, 7, dtype=torch.int64)}, "mask_proposals must be"),
        ({"mask_proposals": torch.rand(2, 2, 0, 6, 7)}, "mask_proposals must be"),
        ({"mask_proposals": torch.full((2, 4, 6, 7), 3.0)}, r"must be in 0\.\.1, got 3\.\.3"),
        ({"patch_tokens": torch.rand(2, 42, 8)}, r"patch_tokens must be float \[b, h, w, d\]"),
        ({"patch_tokens": torch.rand(3, 6, 7, 8)}, "patch_tokens are of 3 images"),
        ({"text_embeddings": torch.rand(5, 9)}, "width 8 and text_embeddings 9"),
        ({"text_embeddings": torch.rand(8)}, "text_embeddings must be"),
        ({"semantic_masks": torch.zeros(3, 13, 17, dtype=torch.uint8)}, r"semantic_masks.*\[2, "),
        ({"semantic_masks": torch.zeros(2, 13, 17)}, "semantic_masks must be integers"),
        ({"semantic_masks": torch.ones(2, 13, 17, dtype=torch.bool)}, "must be integers"),
        ({"semantic_masks": torch.full((2, 13, 17), 5)}, "hold the label 5, neither"),
        ({"semantic_masks": torch.full((2, 13, 17), -1)}, "hold the label -1, neither"),
        ({"ignore_index": 4}, "ignore_index 4 is one of the 5 categories"),
        ({"instance_masks": []}, "instance_masks are of 0 images, not 2"),
        (
            {"instance_masks": [torch.ones(1, 13, 17) > 0, torch.ones(1, 17, 13) > 0]},
            r"instance_masks of image 1 must be bool \[n, 13, 17\], got torch.bool \[1, 17, 13\]",
        ),
        (
            {"instance_masks": [torch.ones(1, 13, 17), torch.ones(1, 13, 17) > 0]},
            "instance_masks of image 0 must be bool",
        ),
        ({"instance_masks": [torch.ones(13, 17) > 0] * 2}, "instance_masks of image 0"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        criterion(**small_batch(**changes))


def test_cross_entropy_alone():
    batch = small_batch()
    arguments = (batch["patch_tokens"], batch["text_embeddings"], batch["semantic_masks"])
    assert torch.equal(semantic_cross_entropy(*arguments, 255), criterion(**batch).ce_loss)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("targets_on_gpu", [False, True])
def test_gpu_agrees(targets_on_gpu):
    batch = small_batch()
    expected = criterion(**batch)
    for name in ("mask_proposals", "patch_tokens", "text_embeddings"):
        batch[name] = batch[name].cuda()
    if targets_on_gpu:
        batch["semantic_masks"] = batch["semantic_masks"].cuda()
        batch["instance_masks"] = [masks.cuda() for masks in batch["instance_masks"]]
    with torch.autocast("cuda", dtype=torch.bfloat16):
        losses = criterion(**batch)
    assert losses.loss.item() == pytest.approx(expected.loss.item(), rel=1e-3)
    for match, other in zip(losses.matches, expected.matches, strict=True):
        assert torch.equal(match.query_indices, other.query_indices)


def test_cosines_are_scaled_before_the_cross_entropy():
    arguments = small_batch()
    scaled = criterion(**arguments, weights=LossWeights(ce_scale=7.0))
    texts = 7.0 * arguments["text_embeddings"]
    expected = semantic_cross_entropy(
        arguments["patch_tokens"], texts, arguments["semantic_masks"], 255
    )
    assert float(scaled.ce_loss) == pytest.approx(float(expected), rel=1e-6)
    assert float(scaled.ce_loss) != pytest.approx(float(criterion(**arguments).ce_loss), rel=1e-2)
    assert scaled.mask_loss == criterion(**arguments).mask_loss


# --- factors of the instances -------------------------------------------------------------------


def disjoint_batch(**changes):
    """A small batch whose instances don't overlap, and are labelled in the semantic masks."""
    batch = small_batch()
    labels = batch["semantic_masks"]
    taken = torch.zeros_like(labels, dtype=torch.bool)
    for image, masks in enumerate(batch["instance_masks"]):
        for number in range(len(masks)):
            masks[number] &= ~taken[image]
            taken[image] |= masks[number]
            labels[image][masks[number]] = 1 + number
    labels[~taken] = 0
    labels[:, -2:] = 255
    return batch | changes


def gradients(batch, **options):
    """The losses, and gradients with respect to proposals and tokens."""
    inputs = [batch[name].clone().requires_grad_() for name in ("mask_proposals", "patch_tokens")]
    losses = criterion(
        **batch | {"mask_proposals": inputs[0], "patch_tokens": inputs[1]}, **options
    )
    losses.loss.backward()
    return losses, [each.grad for each in inputs]


def by_the_formula(batch, object_weights):
    """The losses with factors, from each pixel's and each pair's: both written out anew."""
    tokens = F.interpolate(
        batch["patch_tokens"].double().permute(0, 3, 1, 2), size=(13, 17), mode="bilinear"
    )
    logits = torch.einsum("bdhw,kd->bkhw", tokens, batch["text_embeddings"].double())
    labels, total, mask_loss = batch["semantic_masks"], 0.0, 0.0
    for image, row, column in torch.nonzero(labels != 255).tolist():
        factor = 1.0
        for mask, weight in zip(batch["instance_masks"][image], object_weights[image], strict=True):
            factor = weight.item() if mask[row, column] else factor
        at = logits[image, :, row, column]
        total += factor * (at.logsumexp(0) - at[labels[image, row, column]]).item()
    matches = criterion(**batch).matches  # of the losses without factors
    for image, match in enumerate(matches):
        for layer in range(2):
            for query, instance in zip(
                match.query_indices[layer], match.instance_indices[layer], strict=True
            ):
                p = F.interpolate(
                    batch["mask_proposals"][image, layer, query][None, None].double(),
                    size=(13, 17), mode="bilinear",
                ).flatten()  # fmt: skip
                inside = batch["instance_masks"][image][instance].flatten().double()
                dice = 1 - (2 * (p * inside).sum() + 1) / (p.sum() + inside.sum() + 1)
                bce = -(inside * p.log() + (1 - inside) * (1 - p).log()).mean()
                mask_loss += (object_weights[image][instance] * (dice + bce)).item()
    return total / (labels != 255).sum().item(), mask_loss / 2


def test_factors_scale_the_losses_of_their_instances():
    weights = [torch.tensor([0.5, 2.0, 1.25]), torch.tensor([0.25])]
    batch = disjoint_batch()
    losses = criterion(**batch, object_weights=weights)
    ce, mask = by_the_formula(batch, weights)
    assert losses.ce_loss.item() == pytest.approx(ce, rel=1e-5)
    assert losses.mask_loss.item() == pytest.approx(mask, rel=1e-5)
    assert losses.loss.item() == pytest.approx(ce + mask, rel=1e-5)


def test_factors_of_1_give_the_same_bits():
    plain, expected = gradients(disjoint_batch())
    weights = [torch.ones(3), torch.ones(1)]
    losses, found = gradients(disjoint_batch(), object_weights=weights)
    for name in ("loss", "ce_loss", "mask_loss"):
        assert torch.equal(getattr(losses, name), getattr(plain, name))
    assert all(map(torch.equal, found, expected))


def test_doubling_a_factor_doubles_what_it_adds_to_the_gradient():
    def at(weight):
        losses, found = gradients(
            disjoint_batch(), object_weights=[torch.tensor([1.0, weight, 1.0]), torch.ones(1)]
        )
        return [losses.loss.detach(), *found]

    for one, two, three in zip(at(1.0), at(2.0), at(3.0), strict=True):
        torch.testing.assert_close(three - two, two - one, rtol=1e-3, atol=1e-6)
        assert (two - one).abs().max() > 1e-3


def test_an_instance_of_factor_0_has_no_influence():
    """The gradient is that of a batch without the instance, whose pixels are ignored (but counted
    in the mean)."""
    batch = disjoint_batch()
    gone = batch["instance_masks"][0][1].clone()
    weights = [torch.tensor([1.0, 0.0, 1.0]), torch.ones(1)]
    losses, found = gradients(batch, object_weights=weights)

    without = disjoint_batch()
    without["instance_masks"][0] = without["instance_masks"][0][[0, 2]]
    counted = (without["semantic_masks"] != 255).sum()
    without["semantic_masks"][0][gone] = 255
    share = (without["semantic_masks"] != 255).sum() / counted
    expected, of_masks = gradients(without, weights=LossWeights(ce=share.item()))
    assert torch.equal(found[0], of_masks[0])
    torch.testing.assert_close(found[1], of_masks[1], rtol=1e-4, atol=1e-7)
    assert losses.loss.item() == pytest.approx(expected.loss.item(), rel=1e-5)
    assert losses.matches[0].instance_indices.unique().tolist() == [0, 2]

    other = disjoint_batch()
    other["semantic_masks"][0][gone & (other["semantic_masks"][0] != 255)] = 4
    _, changed = gradients(other, object_weights=weights)
    assert all(map(torch.equal, changed, found))


def test_images_whose_instances_all_have_factor_0_and_those_without_any():
    batch = disjoint_batch()
    batch["instance_masks"][1] = batch["instance_masks"][1][:0]
    weights = [torch.zeros(3), torch.zeros(0)]
    losses, (of_proposals, _) = gradients(batch, object_weights=weights)
    assert losses.mask_loss.item() == 0
    assert not of_proposals.any()


def test_more_instances_than_queries_are_matched_by_cost_alone():
    batch = small_batch()
    batch["mask_proposals"] = batch["mask_proposals"][:, :, :2]
    weights = [torch.tensor([0.01, 5.0, 3.0]), torch.ones(1)]
    expected = criterion(**batch).matches
    found = criterion(**batch, object_weights=weights).matches
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.instance_indices, other.instance_indices)
        assert torch.equal(one.query_indices, other.query_indices)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([torch.ones(3)], r"of \[3, 1\] instances"),
        ([torch.ones(3), torch.ones(2)], r"of \[3, 1\] instances"),
        ([torch.ones(3), torch.tensor([-1.0])], "at least 0"),
        ([torch.ones(3), torch.tensor([torch.nan])], "finite"),
    ],
)
def test_wrong_factors_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        criterion(**small_batch(), object_weights=weights)
