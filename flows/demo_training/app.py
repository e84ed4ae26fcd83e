"""`zutis demo-train`: train the small models of the demonstration again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from cyclopts import App

from flows.commands.options import command_of
from flows.settings.options import Group
from flows.settings.shared import DeviceOption
from flows.settings.value_types import AtLeastOne, AtLeastZero, Seed

demo_train_app = App(name="demo-train", help="Train the demonstration's small models again.")


class SelfMaskOptions(DeviceOption):
    """What `zutis demo-train selfmask` takes."""

    subject: ClassVar[str] = "training"

    out: Annotated[Path, Group.MAIN] = Path("selfmask-demo.safetensors")
    """File for the weights, .safetensors."""
    seed: Annotated[Seed, Group.MAIN] = 0
    """Seed of the made images, the initial weights and the augmentation."""
    made_images: Annotated[AtLeastOne, Group.MAIN] = 2000
    """Number of images that are made to learn from."""


class ClipOptions(SelfMaskOptions):
    """What `zutis demo-train clip` takes."""

    out: Annotated[Path, Group.MAIN] = Path("made-ViT-8.safetensors")
    """File for the weights, .safetensors."""
    made_images: Annotated[AtLeastOne, Group.MAIN] = 24_000
    """Number of images that are made to learn from."""
    minutes: Annotated[AtLeastZero, Group.MAIN] = 0.0
    """Longest training; 0: as long as its steps take."""
    start: Annotated[Path | None, Group.MAIN] = None
    """Weights to go on from, on images of the hard world as well; none: from scratch."""
    regions: Annotated[bool, Group.MAIN] = False
    """With --start: show objects also as regions of labels are, with faint surroundings."""
    precision: Annotated[Literal["float32", "bfloat16"], Group.MACHINE] = "bfloat16"
    """Arithmetic of the training; float32 is faster where the processor has no bfloat16."""


@demo_train_app.command(name="clip")
@command_of(ClipOptions)
def clip_command(options: ClipOptions) -> None:
    """Train the small CLIP on made images and their captions: half an hour on two cores.

    With --start, go on from its weights on images of several objects among look-alikes.
    """
    from flows.demo_training.clip import train_clip

    values = dict(options)
    train_clip(values.pop("out"), images=values.pop("made_images"), **values)


@demo_train_app.command(name="selfmask")
@command_of(SelfMaskOptions)
def selfmask_command(options: SelfMaskOptions) -> None:
    """Train the small SelfMask on made images, without any label: 10 minutes on two cores."""
    from flows.demo_training.selfmask import train_selfmask

    values = dict(options)
    train_selfmask(values.pop("out"), images=values.pop("made_images"), **values)
