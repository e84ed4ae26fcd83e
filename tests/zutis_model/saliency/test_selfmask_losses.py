"""SelfMask's losses against their formulas, written out one pair at a time."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from zutis_model.saliency.selfmask import SelfMaskOutput
from zutis_model.saliency.selfmask_losses import dice_loss, ranking_loss, selfmask_losses


def batch(seed=0, images=3, layers=2, queries=4):
    random = torch.Generator().manual_seed(seed)
    masks = torch.randn(images, layers, queries, 5, 6, generator=random, dtype=torch.float64)
    scores = torch.randn(images, layers, queries, generator=random, dtype=torch.float64)
    targets = torch.rand(images, 11, 13, generator=random) > 0.6
    return masks, scores, targets


def directly(masks, scores, targets):
    """(dice, ranking, cross entropy), summed with loops."""
    dice_sum = ranking_sum = entropy_sum = 0.0
    for image, target in enumerate(targets):
        if not target.any():
            continue
        for layer in range(masks.shape[1]):
            soft = F.interpolate(
                masks[image, layer].sigmoid()[None], size=target.shape, mode="bilinear"
            )[0]
            dice = [
                1 - (2 * float(one[target].sum()) + 1) / (float(one.sum() + target.sum()) + 1)
                for one in soft
            ]
            dice_sum += sum(dice)
            entropy_sum += sum(float(F.binary_cross_entropy(one, target.double())) for one in soft)
            scored = scores[image, layer].sigmoid().tolist()
            for worse, its_dice in enumerate(dice):
                for better, other_dice in enumerate(dice):
                    if its_dice > other_dice:
                        ranking_sum += max(0.0, scored[worse] - scored[better])
    return tuple(total / len(targets) for total in (dice_sum, ranking_sum, entropy_sum))


def test_losses_are_their_formulas():
    masks, scores, targets = batch()
    losses = selfmask_losses(
        SelfMaskOutput(masks, scores), targets, ranking_weight=0.5, cross_entropy_weight=2.0
    )
    dice, ranking, entropy = directly(masks, scores, targets)
    assert losses.dice.item() == pytest.approx(dice, abs=1e-10)
    assert losses.ranking.item() == pytest.approx(ranking, abs=1e-10)
    assert losses.cross_entropy.item() == pytest.approx(entropy, abs=1e-10)
    assert losses.loss.item() == pytest.approx(dice + 0.5 * ranking + 2 * entropy, abs=1e-10)


def test_the_papers_loss_has_no_cross_entropy():
    masks, scores, targets = batch(1)
    losses = selfmask_losses(SelfMaskOutput(masks, scores), targets)
    dice, ranking, _ = directly(masks, scores, targets)
    assert losses.cross_entropy.item() == 0
    assert losses.loss.item() == pytest.approx(dice + ranking, abs=1e-10)


def test_an_image_without_anything_adds_nothing_but_counts():
    masks, scores, targets = batch(2)
    targets[1] = False
    losses = selfmask_losses(SelfMaskOutput(masks, scores), targets)
    dice, ranking, _ = directly(masks, scores, targets)
    assert losses.loss.item() == pytest.approx(dice + ranking, abs=1e-10)


def test_nothing_at_all_is_0_with_a_gradient():
    masks, scores, targets = batch(3)
    losses = selfmask_losses(
        SelfMaskOutput(masks.requires_grad_(), scores.requires_grad_()),
        torch.zeros_like(targets),
        cross_entropy_weight=1.0,
    )
    losses.loss.backward()
    assert losses.loss.item() == 0
    assert not masks.grad.any()


def test_scores_learn_their_order_and_masks_nothing_of_it():
    masks = torch.tensor([[-4.0], [0.0], [4.0]]).view(1, 1, 3, 1, 1).expand(1, 1, 3, 2, 2).clone()
    scores = torch.tensor([[[2.0, 1.0, 0.0]]], requires_grad=True)  # the worst first
    masks.requires_grad_()
    losses = selfmask_losses(SelfMaskOutput(masks, scores), torch.ones(1, 4, 4, dtype=torch.bool))
    losses.ranking.backward()
    assert scores.grad[0, 0, 0] > 0 > scores.grad[0, 0, 2]
    assert masks.grad is None or not masks.grad.any()


def test_ranking_in_the_right_order_costs_nothing():
    badness = torch.tensor([0.9, 0.1, 0.5])
    assert ranking_loss(torch.tensor([0.1, 0.9, 0.5]), badness) == 0
    assert ranking_loss(torch.tensor([0.9, 0.1, 0.5]), badness).item() == pytest.approx(1.6)
    assert ranking_loss(torch.tensor([0.9, 0.1, 0.5]), torch.full((3,), 0.4)) == 0  # all equal


def test_dice_by_hand():
    inside = torch.tensor([1.0, 1.0, 0.0, 0.0])
    assert dice_loss(inside, inside) == 0
    assert dice_loss(1 - inside, inside).item() == pytest.approx(1 - 1 / 5)
    assert dice_loss(torch.full((4,), 0.5), inside).item() == pytest.approx(1 - 3 / 5)


def test_gradients_are_finite_at_0_and_1():
    masks = torch.tensor([-200.0, 200.0, 0.0]).view(1, 1, 3, 1, 1).expand(1, 1, 3, 3, 3).clone()
    masks.requires_grad_()
    output = SelfMaskOutput(masks, torch.zeros(1, 1, 3, requires_grad=True))
    target = torch.eye(6, dtype=torch.bool)[None]
    losses = selfmask_losses(output, target, cross_entropy_weight=1.0)
    losses.loss.backward()
    assert torch.isfinite(losses.loss)
    assert torch.isfinite(masks.grad).all()


@pytest.mark.parametrize(
    ("masks", "targets", "message"),
    [
        ((1, 3, 4, 4), torch.zeros(1, 8, 8, dtype=torch.bool), "of all layers"),
        ((2, 1, 3, 4, 4), torch.zeros(1, 8, 8, dtype=torch.bool), r"bool \[2, H, W\]"),
        ((1, 1, 3, 4, 4), torch.zeros(1, 8, 8), "float32"),
        ((1, 1, 3, 4, 4), torch.zeros(1, 1, 8, 8, dtype=torch.bool), r"\[1, 1, 8, 8\]"),
    ],
)
def test_bad_shapes(masks, targets, message):
    output = SelfMaskOutput(torch.zeros(masks), torch.zeros(masks[:-2]))
    with pytest.raises(ValueError, match=message):
        selfmask_losses(output, targets)
