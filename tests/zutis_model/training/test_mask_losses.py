from itertools import permutations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it

from zutis_model.training import mask_losses
from zutis_model.training.mask_losses import mask_loss, match_instances, pairwise_mask_costs


def random_masks(n, height, width):
    return torch.rand(n, height, width) > 0.6


def cost_of_pair(proposal, mask, dice_weight=1.0, bce_weight=1.0):
    """One low-resolution proposal and one mask, written out."""
    p = F.interpolate(proposal[None, None], size=mask.shape, mode="bilinear")[0, 0]
    p = p.clamp(0, 1)
    m = mask.to(p.dtype)
    dice = 1 - (2 * (p * m).sum() + 1) / (p.sum() + m.sum() + 1)
    return dice_weight * dice + bce_weight * F.binary_cross_entropy(p, m)


@pytest.mark.parametrize("size", [(24, 32), (8, 6), (5, 4), (13, 1)])
def test_pairwise_costs_are_those_of_the_pairs(size):
    proposals, masks = torch.rand(6, 8, 6), random_masks(3, *size)
    masks[1] = False
    proposals[0], proposals[1], proposals[2, :4] = 0.0, 1.0, 1.0

    costs = pairwise_mask_costs(proposals, masks, dice_weight=0.7, bce_weight=1.3)

    expected = [[cost_of_pair(p, m, 0.7, 1.3) for p in proposals] for m in masks]
    torch.testing.assert_close(costs, torch.tensor(expected), rtol=1e-5, atol=1e-6)


def test_costs_of_confident_masks_keep_their_digits():
    # Logarithms of -100 over most of a large image must not drown those of -0.0001.
    mask = torch.zeros(1, 600, 600, dtype=torch.bool)
    mask[:, :, :500] = True
    proposals = mask.float().repeat(2, 1, 1)
    proposals[1, :, :500] = 0.9999

    costs = pairwise_mask_costs(proposals, mask, dice_weight=0.0)

    expected = torch.tensor([[0.0, 1e-4 * 500 / 600]])
    torch.testing.assert_close(costs, expected, rtol=0, atol=1e-6)


def test_loss_of_a_confident_mask_keeps_its_digits():
    mask = torch.ones(1, 600, 600, dtype=torch.bool)
    loss, _ = mask_loss(torch.full((1, 1, 1, 600, 600), 0.9999), [mask], bce_weight=0.0)
    assert loss.item() == pytest.approx(1 - 2 * 0.9999 / 1.9999, abs=1e-6)


def test_chunks_change_nothing(monkeypatch):
    proposals, masks = torch.rand(11, 5, 7), random_masks(4, 20, 21)
    whole = pairwise_mask_costs(proposals, masks)
    rows = []
    upsample = mask_losses._upsample
    monkeypatch.setattr(
        mask_losses, "_upsample", lambda p, size: rows.append(len(p)) or upsample(p, size)
    )
    for elements, expected_rows in ((3 * 420 + 419, [3, 3, 3, 2]), (1, [1] * 11)):
        rows.clear()
        monkeypatch.setattr(mask_losses, "_CHUNK_ELEMENTS", elements)
        torch.testing.assert_close(pairwise_mask_costs(proposals, masks), whole)
        assert rows == expected_rows


def test_inputs_are_left_alone_where_nothing_is_resized():
    proposals, masks = torch.rand(1, 2, 4, 9, 9), random_masks(3, 9, 9)
    before = proposals.clone()
    mask_loss(proposals, [masks])
    assert torch.equal(proposals, before)


@pytest.mark.parametrize(("queries", "instances"), [(5, 3), (3, 5), (4, 4), (1, 2), (2, 1)])
def test_assignment_is_the_cheapest_of_all(queries, instances):
    proposals, masks = torch.rand(1, 2, queries, 6, 6), random_masks(instances, 12, 15)

    (matches,) = match_instances(proposals, [masks])

    pairs = min(queries, instances)
    assert matches.query_indices.shape == matches.instance_indices.shape == (2, pairs)
    assert matches.query_indices.dtype == matches.instance_indices.dtype == torch.int64
    for layer in range(2):
        costs = pairwise_mask_costs(proposals[0, layer], masks)
        if instances > queries:
            costs = costs.T
        cheapest = min(
            sum(costs[i, j].item() for i, j in enumerate(order))
            for order in permutations(range(costs.shape[1]), pairs)
        )
        loss, _ = mask_loss(proposals[:, layer : layer + 1], [masks])
        assert loss.item() == pytest.approx(cheapest, rel=1e-5)
        query, instance = matches.query_indices[layer], matches.instance_indices[layer]
        assert len(set(query.tolist())) == len(set(instance.tolist())) == pairs
        assert instance.tolist() == sorted(instance.tolist())


def test_equal_costs_are_assigned_in_order():
    (matches,) = match_instances(torch.full((1, 1, 4, 3, 3), 0.3), [random_masks(1, 6, 6)])
    assert matches.query_indices.tolist() == [[0]]


def test_weights_are_part_of_the_matching():
    # Query 0 is wrong about few pixels but surely, query 1 about many but not surely.
    mask = torch.zeros(1, 10, 10, dtype=torch.bool)
    mask[:, :5] = True
    proposals = torch.stack([mask[0].float(), 0.4 + 0.2 * mask[0].float()])
    proposals[0, 0, :2] = 0.0
    for dice_weight, bce_weight, best in ((1.0, 0.0, 0), (0.0, 1.0, 1)):
        (matches,) = match_instances(
            proposals[None, None], [mask], dice_weight=dice_weight, bce_weight=bce_weight
        )
        assert matches.query_indices.item() == best


def test_batch_is_the_mean_of_its_images():
    proposals = torch.rand(4, 3, 3, 6, 7)
    # Fewer, more, and as many instances as queries, and none.
    masks = [random_masks(n, 17, 19) for n in (2, 5, 3, 0)]

    loss, matches = mask_loss(proposals, masks)

    singles = [mask_loss(proposals[i : i + 1], masks[i : i + 1]) for i in range(4)]
    assert loss.item() == pytest.approx(sum(s.item() for s, _ in singles) / 4, rel=1e-6)
    assert [m.query_indices.shape for m in matches] == [(3, 2), (3, 3), (3, 3), (3, 0)]
    for batched, (_, (single,)) in zip(matches, singles, strict=True):
        assert torch.equal(batched.query_indices, single.query_indices)
        assert torch.equal(batched.instance_indices, single.instance_indices)


def test_loss_is_the_sum_of_the_pairs():
    proposals, masks = torch.rand(2, 2, 4, 6, 7), [random_masks(n, 17, 19) for n in (6, 3)]

    loss, matches = mask_loss(proposals, masks, dice_weight=0.7, bce_weight=1.3)

    total = sum(
        cost_of_pair(proposals[image, layer, query], masks[image][instance], 0.7, 1.3)
        for image, match in enumerate(matches)
        for layer in range(2)
        for query, instance in zip(
            match.query_indices[layer], match.instance_indices[layer], strict=True
        )
    )
    assert loss.item() == pytest.approx(total.item() / 2, rel=1e-6)


def test_empty_mask_takes_a_query_only_beside_another_mask():
    masks = random_masks(2, 12, 12)
    masks[0] = False
    _, (beside, alone) = mask_loss(torch.rand(2, 1, 3, 6, 6), [masks, masks[:1]])
    assert beside.instance_indices.tolist() == [[0, 1]]
    assert alone.instance_indices.shape == (1, 0)


def test_only_matched_queries_learn():
    proposals = torch.rand(2, 3, 5, 6, 6, requires_grad=True)
    loss, matches = mask_loss(proposals, [random_masks(2, 12, 12), random_masks(0, 12, 12)])
    loss.backward()
    learns = proposals.grad.flatten(3).abs().sum(-1) > 0
    expected = torch.zeros(2, 3, 5, dtype=torch.bool)
    expected[0].scatter_(1, matches[0].query_indices, True)
    assert torch.equal(learns, expected)


def test_gradient_is_that_of_the_loss():
    proposals = (0.1 + 0.8 * torch.rand(1, 2, 3, 3, 4, dtype=torch.float64)).requires_grad_()
    masks = [random_masks(2, 7, 9)]
    assert torch.autograd.gradcheck(lambda p: mask_loss(p, masks)[0], proposals, fast_mode=True)


def test_graph_holds_pairs_and_not_all_combinations():
    proposals = torch.rand(2, 2, 50, 4, 4, requires_grad=True)
    saved = {}

    def count(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        mask_loss(proposals, [random_masks(3, 64, 64), random_masks(2, 64, 64)])

    pairs = 2 * (3 + 2)
    # Probabilities and targets in float32; a single query more would show.
    assert sum(saved.values()) < (2 * pairs + 1) * 64 * 64 * 4


def test_batch_without_objects():
    proposals = torch.rand(2, 3, 4, 6, 6, requires_grad=True)
    empty = torch.zeros(2, 12, 12, dtype=torch.bool)
    loss, matches = mask_loss(proposals, [empty, empty[:0]])
    loss.backward()
    assert loss.item() == 0.0
    assert not proposals.grad.any()
    assert [m.query_indices.shape for m in matches] == [(3, 0), (3, 0)]


@pytest.mark.parametrize("size", [(7, 9), (16, 16), (37, 45), (5, 3)])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_saturated_proposals(size, value):
    # Some of these sizes interpolate ones to 1 + 1e-7.
    proposals = torch.full((1, 1, 4, 6, 5), value)
    proposals[0, 0, 3, 2:4] = 1 - value
    proposals.requires_grad_()
    loss, _ = mask_loss(proposals, [random_masks(3, *size)])
    loss.backward()
    assert 0 < loss.item() < 3 * 102
    assert torch.isfinite(proposals.grad).all()


def test_interpolation_between_ones_does_exceed_one():
    # What the clamp in `_upsample` is for. If this fails, torch has become more exact.
    sizes = [(7, 9), (37, 45), (31, 53), (48, 64), (59, 41)]
    ones = torch.ones(1, 1, 6, 5)
    highest = max(F.interpolate(ones, size=s, mode="bilinear").max().item() for s in sizes)
    assert highest > 1
    assert max(mask_losses._upsample(ones[0], s).max().item() for s in sizes) == 1


def test_nan_gives_a_nan_loss():
    # In a query that would not have been matched, too.
    proposals = torch.rand(2, 2, 4, 6, 6)
    proposals[1, 0, 2, 3, 3] = torch.nan
    proposals.requires_grad_()
    loss, matches = mask_loss(proposals, [random_masks(1, 12, 12)] * 2)
    loss.backward()
    assert loss.isnan()
    assert proposals.grad.isnan().all()
    assert [m.query_indices.shape for m in matches] == [(2, 0), (2, 0)]


@pytest.mark.parametrize("value", [-0.1, 1.5, torch.inf, -torch.inf])
def test_what_is_no_probability_is_refused(value):
    proposals = torch.rand(1, 1, 2, 3, 3)
    proposals[0, 0, 0, 0, 0] = value
    with pytest.raises(ValueError, match=r"0\.\.1, got"):
        mask_loss(proposals, [random_masks(1, 6, 6)])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_agrees():
    proposals, masks = torch.rand(2, 2, 5, 6, 6), [random_masks(n, 24, 30) for n in (3, 7)]
    expected, expected_matches = mask_loss(proposals, masks)
    for device_masks in (masks, [m.cuda() for m in masks]):
        loss, matches = mask_loss(proposals.cuda(), device_masks)
        assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
        for match, other in zip(matches, expected_matches, strict=True):
            assert torch.equal(match.query_indices, other.query_indices)
