"""CLIP training in phases: small crops of images first, which is fast, then whole images.

Images of single objects come before scenes, in which the named object has to be found first:
trials with both from the beginning learned far more slowly. Crops have few patches and show objects
at the scale of whole images, so that what is learned from them remains valid. A last phase at full
size then makes up for the change of size, as the last epochs of CLIP and FLIP at a higher
resolution do (Radford et al. 2021, section 2.5; Li et al. 2023).
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
    """One phase of a training.

    Attributes:
        steps: number of batches.
        share: of the training's time limit, 0..1.
        image_size: side of the network's input, pixels.
        batch_size: images of a batch.
        learning_rate: the highest.
        crop: smallest and largest crop of an image; see `caption_batches`.
        shortest: how often the shortest caption is chosen; see `caption_batches`.
        max_objects: images with more objects are left out; None: all images are used.
        tiles: images along the side of the network's input; see
            `zutis_model.training.contrastive.embed_pairs`.
        regions: how often an object is shown as regions of labels are; see `caption_batches`.
    """

    steps: int
    share: float
    image_size: int
    batch_size: int
    learning_rate: float
    crop: tuple[float, float] = WHOLE
    shortest: float = 0.5
    max_objects: int | None = None
    tiles: int = 1
    regions: float = 0.0


PHASES: Final = (
    Phase(
        steps=1600, share=0.4, image_size=96, tiles=2, batch_size=128, learning_rate=1e-3,
        crop=(0.3, 0.7), shortest=1.0, max_objects=1,
    ),
    Phase(
        steps=600, share=0.35, image_size=128, tiles=2, batch_size=128, learning_rate=7e-4,
        crop=(0.4, 1.0), max_objects=3,
    ),
    Phase(steps=200, share=0.25, image_size=128, batch_size=64, learning_rate=4e-4),
)  # fmt: skip
"""The phases of `made-ViT-8`, whose image size is 128."""

MORE_PHASES: Final = (
    Phase(
        steps=900, share=0.55, image_size=128, tiles=2, batch_size=128, learning_rate=5e-4,
        crop=(0.4, 1.0), max_objects=3, shortest=0.7,
    ),
    Phase(steps=500, share=0.45, image_size=128, batch_size=64, learning_rate=4e-4, shortest=0.6),
)  # fmt: skip
"""The phases of a training that goes on from weights, on images of several objects."""

REGION_PHASES: Final = (
    Phase(
        steps=550, share=0.65, image_size=128, tiles=2, batch_size=128, learning_rate=4e-4,
        crop=(0.4, 1.0), max_objects=3, shortest=0.7, regions=0.5,
    ),
    Phase(
        steps=250, share=0.35, image_size=128, batch_size=64, learning_rate=3e-4, shortest=0.6,
        regions=0.3,
    ),
)  # fmt: skip
"""The phases of a training that goes on from these weights, on regions of labels as well."""


def train_in_phases(
    images: Sequence[CaptionedImage],
    phases: Sequence[Phase],
    *,
    architecture: str,
    seed: int,
    precision: str = "float32",
    max_minutes: float = 0.0,
    device: str = "cpu",
    start: Mapping[str, Tensor] | None = None,
    on_step: Callable[[Phase, ClipStep], None],
) -> dict[str, Tensor]:
    """Train a CLIP and return its weights, under open_clip's names.

    Args:
        images: at least as many as the largest batch has.
        phases: one or more; the last has the architecture's own image size.
        architecture: one whose two towers are of CLIP's own kinds.
        seed: of the initial weights and the augmentation.
        precision: see `ClipTrainingConfig`.
        max_minutes: time limit of all phases together; 0: no limit. Weights of a training that
            reaches it depend on the machine's speed.
        device: `cpu`, `cuda` or `cuda:N`. Returned weights are on the CPU.
        start: weights to go on from; None: from scratch.
        on_step: called after each batch.

    Raises:
        ConfigError: a setting is invalid; the text says which.
    """
    from zutis_model.clip.own_architectures import make_tokenizer
    from zutis_model.training.contrastive import new_clip

    if not phases:
        raise ConfigError("A training needs one phase or more, got none.")
    weights = dict(start) if start is not None else None
    for number, phase in enumerate(phases):
        model = new_clip(architecture, seed, image_size=phase.image_size, state_dict=weights)
        model = model.to(device)
        train_clip_model(
            model,
            make_tokenizer(architecture),
            caption_batches(
                _seen(images, phase.max_objects),
                phase.batch_size,
                phase.image_size // phase.tiles,
                seed * len(phases) + number,
                phase.crop,
                phase.shortest,
                phase.regions,
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
    assert weights is not None
    return weights


def read_weights(path: Path) -> dict[str, Tensor]:
    """Weights that `write_weights` wrote, as float32.

    Raises:
        ConfigError: the file can't be read as safetensors.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return {name: tensor.float() for name, tensor in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise ConfigError(
            f"{path} holds no weights to go on from ({error}); choose a file that"
            " `zutis demo-train clip` wrote."
        ) from error


def _seen(images: Sequence[CaptionedImage], most: int | None) -> Sequence[CaptionedImage]:
    return [one for one in images if most is None or len(one.centres) <= most]


def write_weights(weights: Mapping[str, Tensor], out: Path) -> None:
    """Write weights as safetensors in float16, whose rounding error is negligible."""
    from safetensors.torch import save_file

    out.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.half().contiguous() for name, tensor in weights.items()}, out)
    out.chmod(0o644)  # save_file lets only the owner read; the file becomes part of a package
