"""One training step: equal results for any micro-batch, and no update if not finite."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial

import pytest
import torch

from storage.errors.exceptions import ConfigError, ZutisError
from tasks.training.processes import Processes
from tasks.training.step import Optimisation, _optimisers
from tests.support.runs import small_training
from tests.support.runs.small_training import batch_of
from tests.support.runs.training_samples import IGNORE, Batch
from zutis_model.training.criterion import criterion

# The small architecture's synthetic weights make gradients so steep that rounding shows in them.
pytestmark = pytest.mark.slow

small_trainer = partial(small_training.small_trainer, architecture="ViT-S-32-alt")


def gradients(trainer):
    return {
        name: parameter.grad.clone()
        for name, parameter in trainer.network.named_parameters()
        if parameter.grad is not None
    }


def assert_gradients_agree(actual, expected):
    assert actual.keys() == expected.keys()
    for name, gradient in expected.items():
        scale = gradient.abs().max().item()
        torch.testing.assert_close(
            actual[name], gradient, rtol=0, atol=1e-4 * scale + 1e-7, msg=lambda m, n=name: n + m
        )


@pytest.fixture(scope="module")
def batch():
    batch = batch_of(0, 1, 2)
    counted = (batch.semantic_masks != IGNORE).flatten(1).sum(dim=1)
    assert len(counted.unique()) > 1, "a plain mean over micro-batches would be right by chance"
    return batch


@pytest.fixture(scope="module")
def whole(batch):
    """The result of a step on the whole batch, and its gradients."""
    trainer = small_trainer(batch_size=3)
    return trainer.step(batch), gradients(trainer)


def test_losses_are_those_of_the_criterion(batch, whole):
    trainer = small_trainer(batch_size=3)
    output = trainer.network(batch.images, all_layers=True)
    losses = criterion(
        output.mask_proposals,
        output.patch_tokens,
        trainer.text_embeddings,
        batch.semantic_masks,
        batch.instance_masks,
    )
    result, _ = whole
    assert result.loss == pytest.approx(losses.loss.item(), rel=1e-6)
    assert result.ce_loss == pytest.approx(losses.ce_loss.item(), rel=1e-6)
    assert result.mask_loss == pytest.approx(losses.mask_loss.item(), rel=1e-6)


@pytest.mark.parametrize("size", [1, 2])
def test_micro_batches_add_up_to_the_whole(batch, whole, size):
    trainer = small_trainer(batch_size=3, micro_batch=size)
    result = trainer.step(batch)
    assert result.loss == pytest.approx(whole[0].loss, rel=1e-5)
    assert result.gradient_norm == pytest.approx(whole[0].gradient_norm, rel=1e-4)
    assert_gradients_agree(gradients(trainer), whole[1])


def test_a_full_gpu_halves_the_micro_batch_and_changes_nothing_else(
    batch, whole, monkeypatch, caplog
):
    trainer = small_trainer(batch_size=3)
    forward = trainer.network.forward
    sizes = []

    def with_little_memory(images, **settings):
        sizes.append(len(images))
        if len(images) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return forward(images, **settings)

    monkeypatch.setattr(trainer.network, "forward", with_little_memory)
    with caplog.at_level(logging.WARNING):
        result = trainer.step(batch)
    assert sizes == [3, 2, 1]
    assert trainer.micro_batch == 2
    assert "the micro-batch has 2 images" in caplog.text
    assert result.loss == pytest.approx(whole[0].loss, rel=1e-5)
    assert_gradients_agree(gradients(trainer), whole[1])
    trainer.step(batch)
    assert sizes[3:] == [2, 1], "the smaller size has to stay"


def test_a_gpu_too_small_for_one_image_is_one_sentence(batch, monkeypatch):
    trainer = small_trainer(batch_size=3)

    def without_memory(images, **settings):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(trainer.network, "forward", without_memory)
    with pytest.raises(ZutisError, match="too small for a single training image"):
        trainer.step(batch)


def test_bfloat16_is_close_and_leaves_weights_in_float32(batch, whole):
    trainer = small_trainer(batch_size=3, precision="bfloat16")
    result = trainer.step(batch)
    assert result.loss == pytest.approx(whole[0].loss, rel=0.02)
    assert result.loss != whole[0].loss
    assert {weight.dtype for weight in trainer.trained_weights().values()} == {torch.float32}


def test_nothing_is_learned_from_a_loss_that_is_not_finite():
    trainer = small_trainer()
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    batch = batch_of(0, 1)
    result = trainer.step(
        Batch(batch.images * torch.nan, batch.semantic_masks, batch.instance_masks)
    )
    assert not result.is_finite
    assert trainer.steps_done == 0
    for name, value in trainer.network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_rates_are_those_of_the_recipe():
    trainer = small_trainer(iterations=4)
    batch = batch_of(0, 1)
    rates = [trainer.step(batch).learning_rates for _ in range(4)]
    assert rates[0] == (5e-5, pytest.approx(5e-6))
    assert rates[2] == (pytest.approx(5e-5 * 0.5**0.9), pytest.approx(5e-6 * 0.5**0.9))
    assert rates[3][1] == pytest.approx(5e-6 * 0.25**0.9)


def test_all_weights_learn_and_text_embeddings_do_not():
    trainer = small_trainer()
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    texts = trainer.text_embeddings.clone()
    trainer.step(batch_of(0, 1))
    same = [n for n, v in trainer.network.state_dict().items() if torch.equal(v, before[n])]
    assert same == []
    assert torch.equal(trainer.text_embeddings, texts)
    assert not trainer.text_embeddings.requires_grad


def test_muon_learns_matrices_inside_blocks_and_adamw_all_else():
    """AdamW's first step has the same length in all directions, for any gradient."""
    trainer = small_trainer(muon_factor=2.0, weight_decay=0.0)
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    trainer.step(batch_of(0, 1))
    steps = {name: v - before[name] for name, v in trainer.network.state_dict().items()}
    inner = steps["encoder.transformer.resblocks.0.mlp.c_fc.weight"].abs()
    assert inner.std() > 0.3 * inner.mean()
    outer = steps["query_embed"].abs()
    assert outer.std() < 0.1 * outer.mean()


def test_every_weight_is_learned_by_one_optimiser():
    network = small_trainer(muon_factor=2.0).network
    optimisers = _optimisers(network, Optimisation(muon_factor=2.0))
    learned = [p for one in optimisers for group in one.param_groups for p in group["params"]]
    assert sorted(map(id, learned)) == sorted(map(id, network.parameters()))
    rates = [[group["lr"] for group in one.param_groups] for one in optimisers]
    assert rates == [[pytest.approx(5e-6), 5e-5], [pytest.approx(1e-5), 1e-4]]


def test_training_with_muon_goes_on_exactly():
    whole, first, second = (small_trainer(muon_factor=2.0, iterations=4) for _ in range(3))
    batches = [batch_of(i, i + 1) for i in range(4)]
    for batch in batches:
        whole.step(batch)
    for batch in batches[:2]:
        first.step(batch)
    second.load_state_dict(first.state_dict())
    for batch in batches[2:]:
        second.step(batch)
    for name, value in whole.network.state_dict().items():
        assert torch.equal(second.network.state_dict()[name], value), name


def test_long_gradients_are_shortened_and_reported_at_full_length():
    trainer = small_trainer(max_gradient_norm=0.01)
    result = trainer.step(batch_of(0, 1))
    assert result.gradient_norm > 0.1
    norm = torch.nn.utils.get_total_norm(list(gradients(trainer).values()))
    assert norm.item() == pytest.approx(0.01, rel=1e-3)


def test_the_moving_average_is_published():
    trainer = small_trainer(ema_decay=0.75)
    batch = batch_of(0, 1)
    expected = trainer.network.query_embed.detach().clone()
    for _ in range(3):
        trainer.step(batch)
        expected = 0.75 * expected + 0.25 * trainer.network.query_embed.detach()
    published = trainer.trained_weights()["query_embed"]
    torch.testing.assert_close(published, expected)
    assert not torch.equal(published, trainer.network.query_embed)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_processes_share_a_batch_without_gap_or_overlap(size):
    shares = [Processes(rank, size).share(8) for rank in range(size)]
    assert [place for share in shares for place in share] == list(range(8))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("iterations", 0), ("batch_size", 0), ("learning_rate", 0.0), ("encoder_factor", -1.0),
     ("power", float("nan")), ("weight_decay", -0.1), ("max_gradient_norm", 0.0),
     ("ema_decay", 1.0), ("muon_factor", 0.0), ("ce_weight", float("inf"))],
)  # fmt: skip
def test_settings_that_cannot_work_are_named(name, value):
    with pytest.raises(ConfigError, match=f"{name} is {value}"):
        Optimisation(**{name: value})


def test_it_learns_a_batch_that_it_sees_again_and_again(batch):
    trainer = small_trainer(learning_rate=1e-3, iterations=40)
    losses = [trainer.step(batch).loss for _ in range(12)]
    assert losses[-1] < 0.8 * losses[0]


def test_weights_of_objects_go_with_their_images(batch):
    """Equal for any micro-batch, and the criterion's of the whole batch."""
    weights = [0.5 + torch.arange(len(masks)) for masks in batch.instance_masks]
    weighted = replace(batch, object_weights=weights)
    trainer = small_trainer(batch_size=3)
    output = trainer.network(batch.images, all_layers=True)
    losses = criterion(
        output.mask_proposals,
        output.patch_tokens,
        trainer.text_embeddings,
        batch.semantic_masks,
        batch.instance_masks,
        object_weights=weights,
    )
    result = trainer.step(weighted)
    assert result.loss == pytest.approx(losses.loss.item(), rel=1e-6)
    pieces = small_trainer(batch_size=3, micro_batch=1)
    assert pieces.step(weighted).loss == pytest.approx(result.loss, rel=1e-5)
    assert_gradients_agree(gradients(pieces), gradients(trainer))


def test_weights_of_1_give_the_same_bits(batch, whole):
    ones = [torch.ones(len(masks)) for masks in batch.instance_masks]
    trainer = small_trainer(batch_size=3)
    assert trainer.step(replace(batch, object_weights=ones)).loss == whole[0].loss
    assert all(torch.equal(each, whole[1][name]) for name, each in gradients(trainer).items())
