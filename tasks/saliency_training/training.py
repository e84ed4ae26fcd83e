"""Training of SelfMask on one mask per image, either voted (without labels) or given.

Optimiser (AdamW, weight decay 0.01) and losses, on every layer of the decoder, are those of the
paper (Shin et al. 2022, section 4) and of the reference's `configs/duts-dino-*.yaml`. The defaults
of `schedule` and `views` differ: a warm-up and a cosine, and crops of 0.5 to 1 times an image's
shorter side. On a CPU, the same images and seeds give the same weights if torch uses the same
number of threads.

Dimensions:
    n     images of a batch
    s     rows and columns of the network's input
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from storage.errors.exceptions import ConfigError, CorpusError
from storage.errors.numbers import check_numbers
from tasks.saliency_training.batches import Pixels, Views, selfmask_batches
from tasks.saliency_training.votes import Mask, PseudoMask, VoteConfig, pseudo_masks
from tasks.stage.models import ModelConfig, load_selfmask_model
from tasks.training.allocator import keep_freed_memory
from tasks.training.timed_schedule import check_loss, learning_rate, share_done

if TYPE_CHECKING:
    from torch import Tensor

    from tasks.saliency_training.votes import Features
    from zutis_model.saliency.selfmask import SelfMask

Batches = Iterator[tuple[Pixels, Mask]]
"""Images uint8 [n, s, s, 3], RGB, and masks bool [n, s, s]."""

Schedule = Literal["cosine", "poly"]

_PATCH = 8
_POWER: Final = 0.9


@dataclass(frozen=True, kw_only=True)
class SelfMaskTrainingConfig:
    """Hyperparameters of a SelfMask training.

    Attributes:
        steps: number of batches.
        batch_size: images of a batch.
        image_size: side of the network's input, pixels; a multiple of 8.
        learning_rate: the highest, after the warm-up. The paper's 6e-6 is for a pretrained
            encoder.
        warmup_steps: over which the learning rate rises linearly, before a cosine.
        schedule: decay of the learning rate: a cosine, or the paper's poly, `(1 - done) ** 0.9`.
            (The reference's code restarts its poly with every epoch, so that its rate stays above
            0.92 of the highest; that is not done here.)
        views: kind of crops; see `selfmask_batches`.
        weight_decay: AdamW's.
        max_gradient_norm: gradients are clipped to it; 0: not clipped.
        ranking_weight: of the ranking loss.
        cross_entropy_weight: of a binary cross entropy, which is not in the paper; see
            `zutis_model.saliency.selfmask_losses`.
        max_seconds: time limit; the training and its schedule end then if `steps` batches take
            longer, and the weights depend on the machine's speed. 0: no limit.
        seed: of the order and the augmentation of the images.
    """

    steps: int
    batch_size: int = 16
    image_size: int = 96
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    schedule: Schedule = "cosine"
    views: Views = "parts"
    weight_decay: float = 0.01
    max_gradient_norm: float = 0.0
    ranking_weight: float = 1.0
    cross_entropy_weight: float = 0.0
    max_seconds: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_numbers(self)
        for name in ("steps", "batch_size", "learning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name} is {getattr(self, name)}: choose more than 0.")
        for name in ("warmup_steps", "weight_decay", "max_gradient_norm", "ranking_weight",
                     "cross_entropy_weight", "max_seconds", "seed"):  # fmt: skip
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} is {getattr(self, name)}: choose 0 or more.")
        if self.schedule not in get_args(Schedule):
            raise ConfigError(f"schedule is {self.schedule!r}: choose cosine or poly.")
        if self.views not in get_args(Views):
            raise ConfigError(f"views is {self.views!r}: choose parts or scaled.")
        if self.image_size < 2 * _PATCH or self.image_size % _PATCH:
            raise ConfigError(
                f"image_size is {self.image_size}: choose a multiple of {_PATCH} from {2 * _PATCH}."
            )


@dataclass(frozen=True, kw_only=True)
class SelfMaskStep:
    """Progress of a training.

    Attributes:
        step: number of finished batches.
        done: finished share of the training, 0..1.
        loss: of the last batch; see `dice`.
        dice: mean dice loss of the last batch over layers and queries, 0..1.
        learning_rate: of the last batch.
    """

    step: int
    done: float
    loss: float
    dice: float
    learning_rate: float


def train_selfmask(
    network: SelfMask,
    images: Sequence[Pixels],
    masks: Sequence[Mask] | None,
    config: SelfMaskTrainingConfig,
    on_step: Callable[[SelfMaskStep], None],
    *,
    sources: Sequence[Features] = (),
    votes: VoteConfig | None = None,
) -> None:
    """Train a network in place; it ends in eval mode.

    Args:
        network: from `saliency.selfmask_initialisation`, or a trained one for fine-tuning.
        images: uint8 [h, w, 3], RGB, of any sizes.
        masks: of the salient object, bool [h, w] for each image; images with an empty mask are
            skipped. None: masks are voted, without any label.
        config: hyperparameters.
        on_step: called after each batch.
        sources: of features, for voting.
        votes: settings of voting.

    Raises:
        ConfigError: masks are to be voted, but there is no source of features; or the loss is not
            finite, for instance because the learning rate is too high.
        CorpusError: no image has a mask.
    """
    if masks is None:
        found = pseudo_masks(images, sources, votes)
        images, masks = _with_masks(images, list(found))
    pairs = [(pixels, mask) for pixels, mask in zip(images, masks, strict=True) if mask.any()]
    if not pairs:
        raise CorpusError("There is nothing to train on: none of the images has a salient object.")
    batches = selfmask_batches(
        [pixels for pixels, _ in pairs],
        [mask for _, mask in pairs],
        batch_size=config.batch_size,
        image_size=config.image_size,
        seed=config.seed,
        views=config.views,
    )
    train_on_batches(network, batches, config, on_step)


def new_selfmask(
    *,
    width: int,
    encoder_layers: int,
    decoder_layers: int,
    queries: int,
    image_size: int,
    seed: int,
    precision: str = "float32",
    device: str = "cpu",
) -> SelfMask:
    """A randomly initialised network of the given sizes.

    Args:
        width: a multiple of 32.
        encoder_layers, decoder_layers, queries: 1 or more.
        image_size: of the training, which sets the grid of position embeddings.
        seed: of the weights.
        precision: `float32` or `bfloat16`.
        device: of the network.

    Raises:
        ConfigError: a size is invalid.
    """
    from zutis_model.saliency.selfmask_initialisation import initialise_selfmask
    from zutis_model.saliency.selfmask_sizes import SelfMaskSizes

    try:
        sizes = SelfMaskSizes(
            width=width,
            encoder_layers=encoder_layers,
            decoder_layers=decoder_layers,
            queries=queries,
            grid=image_size // _PATCH,
        )
        network = initialise_selfmask(
            sizes,
            seed=seed,
            precision=precision,  # type: ignore[arg-type]  # checked there
        )
    except ValueError as error:
        raise ConfigError(f"The network's sizes are invalid: {error}.") from error
    return network.to(device)


def adaptable_selfmask(config: ModelConfig) -> SelfMask:
    """A copy of a configuration's network, for fine-tuning.

    Raises:
        WeightsError: the weights are of another model.
    """
    # Loaded networks are shared within a process; one that is trained must not be.
    return copy.deepcopy(load_selfmask_model(config))


def _with_masks(
    images: Sequence[Pixels], votes: Sequence[PseudoMask | None]
) -> tuple[list[Pixels], list[Mask]]:
    """The images with a voted mask, and the masks."""
    pairs = [(one, vote.mask) for one, vote in zip(images, votes, strict=True) if vote]
    return [pixels for pixels, _ in pairs], [mask for _, mask in pairs]


def train_on_batches(
    network: SelfMask,
    batches: Batches,
    config: SelfMaskTrainingConfig,
    on_step: Callable[[SelfMaskStep], None],
) -> None:
    """Train a network in place on at least `config.steps` batches; see `train_selfmask`."""
    import torch

    keep_freed_memory(network.device.type)
    network.train().requires_grad_(True)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    started, step, done = time.monotonic(), 0, 0.0
    while done < 1:
        rate = rate_of(config, step, done)
        for group in optimiser.param_groups:
            group["lr"] = rate
        loss, dice = _learn(network, next(batches), optimiser, config)
        step += 1
        check_loss(config, step, loss)
        done = share_done(config, step, time.monotonic() - started)
        on_step(SelfMaskStep(step=step, done=done, loss=loss, dice=dice, learning_rate=rate))
    network.eval().requires_grad_(False)


def rate_of(config: SelfMaskTrainingConfig, step: int, done: float) -> float:
    """The learning rate after `step` batches, when the share `done` (0..1) is finished."""
    if config.schedule == "cosine":
        return learning_rate(config, step, done)
    return config.learning_rate * float((1 - done) ** _POWER)


def _learn(
    network: SelfMask,
    batch: tuple[Pixels, Mask],
    optimiser: object,
    config: SelfMaskTrainingConfig,
) -> tuple[float, float]:
    """One training step; returns the loss and the mean dice loss before it."""
    import torch

    from zutis_model.layers.normalisation import normalise
    from zutis_model.saliency.selfmask_losses import selfmask_losses

    assert isinstance(optimiser, torch.optim.Optimizer)
    pixels, masks = (torch.from_numpy(each) for each in batch)
    images = normalise(pixels.permute(0, 3, 1, 2).to(network.device))
    output = network(images, all_layers=True)
    losses = selfmask_losses(
        output,
        masks.to(network.device),
        ranking_weight=config.ranking_weight,
        cross_entropy_weight=config.cross_entropy_weight,
    )
    optimiser.zero_grad(set_to_none=True)
    losses.loss.backward()  # type: ignore[no-untyped-call]
    if config.max_gradient_norm:
        torch.nn.utils.clip_grad_norm_(network.parameters(), config.max_gradient_norm)
    optimiser.step()
    layers, queries = output.objectness_logits.shape[1:]
    return float(losses.loss.detach()), float(losses.dice.detach()) / (layers * queries)


def salient_masks(
    network: SelfMask, images: Sequence[Pixels], image_size: int = 0
) -> Iterator[NDArray[np.float32]]:
    """The network's soft mask of each image: float32 [h, w] in 0..1.

    Args:
        network: trained.
        images: uint8 [h, w, 3], RGB, any sizes.
        image_size: shorter side of the network's input, pixels; 0: the image's own.
    """
    import torch
    import torch.nn.functional as F  # noqa: N812 - the field's name for it
    from torchvision.transforms.functional import resize

    from zutis_model.layers.normalisation import normalise

    for pixels in images:
        image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None]
        seen = resize(image, [image_size]) if image_size else image
        soft, _ = network.predict(normalise(seen.to(network.device)))
        size = (pixels.shape[0], pixels.shape[1])
        if soft.shape[1:] != size:
            soft = F.interpolate(soft[None], size=size, mode="bilinear")[0]
        yield soft[0].cpu().numpy()


def write_selfmask(weights: Mapping[str, Tensor], out: Path) -> None:
    """Write weights as safetensors in float16, whose rounding error is negligible."""
    from safetensors.torch import save_file

    out.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.half().cpu().contiguous() for name, tensor in weights.items()}, out)
