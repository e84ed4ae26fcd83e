"""Training a CLIP in phases: small parts of pictures first, which is fast, then whole ones.

Single things come before scenes, where what a caption names has to be found first: trials with
both from the beginning learned far more slowly. Parts have few patches and show things at the scale
at which whole pictures show them later, so that what is learned from them stays right. A last
phase at full size then mends what the change of size costs, as CLIP's and FLIP's last epochs at
more pixels do (Radford et al. 2021, section 2.5; Li et al. 2023).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from storage.errors.exceptions import ConfigError
from tasks.clip_training.images import WHOLE, CaptionedImage, caption_batches
from tasks.clip_training.loop import ClipStep, ClipTrainingConfig, train_clip_model

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of a training.

    Attributes:
        steps: batches.
        share: of the training's longest time, 0..1.
        image_size: pixels along the side of what the network sees.
        batch_size: pictures of a batch.
        learning_rate: the highest.
        cut: smallest and largest part of a picture that is seen; see `caption_batches`.
        shortest: how often the shortest caption is taken; see there.
        most_things: pictures with more of them are left out; None: all pictures are seen.
        tiles: pictures along the side of what the network sees; see
            `zutis_model.training.contrastive.embed_pairs`.
    """

    steps: int
    share: float
    image_size: int
    batch_size: int
    learning_rate: float
    cut: tuple[float, float] = WHOLE
    shortest: float = 0.5
    most_things: int | None = None
    tiles: int = 1


PHASES: Final = (
    Phase(
        steps=1600, share=0.4, image_size=96, tiles=2, batch_size=128, learning_rate=1e-3,
        cut=(0.3, 0.7), shortest=1.0, most_things=1,
    ),
    Phase(
        steps=600, share=0.35, image_size=128, tiles=2, batch_size=128, learning_rate=7e-4,
        cut=(0.4, 1.0), most_things=3,
    ),
    Phase(steps=200, share=0.25, image_size=128, batch_size=64, learning_rate=4e-4),
)  # fmt: skip
"""Of `made-ViT-8`, whose image size is 128."""


def train_in_phases(
    pictures: Sequence[CaptionedImage],
    phases: Sequence[Phase],
    *,
    architecture: str,
    seed: int,
    precision: str = "float32",
    max_minutes: float = 0.0,
    device: str = "cpu",
    on_step: Callable[[Phase, ClipStep], None],
) -> dict[str, Tensor]:
    """Train a CLIP from nothing; its weights, as open_clip names them.

    Args:
        pictures: at least as many as the largest batch has.
        phases: one or more; the last has the architecture's own image size.
        architecture: whose two towers are CLIP's own kinds.
        seed: of the initial weights and all random changes of the pictures.
        precision: see `ClipTrainingConfig`.
        max_minutes: of all phases; 0: no limit. Weights of a training that ends by the clock
            depend on the machine's speed.
        device: `cpu`, `cuda` or `cuda:N`. Returned weights are on the CPU.
        on_step: called after each batch.

    Raises:
        ConfigError: a setting can't work; the text says which.
    """
    from zutis_model.clip.own_architectures import make_tokenizer
    from zutis_model.training.contrastive import new_clip

    weights: dict[str, Tensor] | None = None
    for number, phase in enumerate(phases):
        model = new_clip(architecture, seed, image_size=phase.image_size, state_dict=weights)
        model = model.to(device)
        train_clip_model(
            model,
            make_tokenizer(architecture),
            caption_batches(
                _seen(pictures, phase.most_things),
                phase.batch_size,
                phase.image_size // phase.tiles,
                seed * len(phases) + number,
                phase.cut,
                phase.shortest,
            ),
            ClipTrainingConfig(
                steps=phase.steps,
                learning_rate=phase.learning_rate,
                precision=precision,
                max_seconds=60 * max_minutes * phase.share,
                tiles=phase.tiles,
            ),
            lambda step, phase=phase: on_step(phase, step),  # type: ignore[misc]
        )
        weights = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
    if weights is None:
        raise ConfigError("A training needs one phase or more, got none.")
    return weights


def _seen(pictures: Sequence[CaptionedImage], most: int | None) -> Sequence[CaptionedImage]:
    return [one for one in pictures if most is None or len(one.centres) <= most]


def write_weights(weights: Mapping[str, Tensor], out: Path) -> None:
    """Write weights as safetensors in float16, whose error is far below the training's own."""
    from safetensors.torch import save_file

    out.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.half().contiguous() for name, tensor in weights.items()}, out)
    out.chmod(0o644)  # it is written for its owner alone, and will be part of a package
