"""`zutis demo-train clip`: train the small CLIP of the demonstration on made images.

Images and captions come from `made_world`, with seeds that no demonstration uses: training uses
seeds from 1000 on, held-out images 900 to 999, and the demonstration 0 to 99 and 500 to 599.

A training from scratch sees the easy world. One that goes on from its weights (`start`) sees the
hard world in every other image, with kinds that share a name, and with more look-alikes than are
usual there, whose names it has to learn.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from flows.settings.devices import require_device
from flows.terminal.tenths import showing_tenths
from flows.terminal.waiting import waiting_for
from made_world.corpus import World
from made_world.scenes.captions import caption
from made_world.scenes.composing import MadeImage
from made_world.scenes.hard import HARD, hard_image
from made_world.scenes.images import corpus_image, scene_image
from made_world.things.kinds import CLUTTER, KINDS, KINDS_AND_SENSES
from storage.errors.exceptions import ConfigError
from storage.errors.numbers import check_named_numbers
from storage.weights.registry import ClipSpec
from storage.weights.resolving import resolve
from tasks.clip_training.images import CaptionedImage
from tasks.clip_training.loop import ClipStep
from tasks.clip_training.phases import (
    MORE_PHASES,
    PHASES,
    REGION_PHASES,
    Phase,
    read_weights,
    train_in_phases,
    write_weights,
)
from tasks.clip_training.scores import (
    maskclip_iou,
    retrieval_precision,
    similarities,
    zero_shot_accuracy,
)
from tasks.stage.models import ModelConfig, load_clip_model
from tasks.workers.worker_processes import exit_with_parent

ARCHITECTURE: Final = "made-ViT-8"

_FIRST_SEED: Final = 1000
_HELD_OUT_CORPUS, _HELD_OUT_SCENES = 900, 901
_HELD_OUT_HARD_CORPUS, _HELD_OUT_HARD_SCENES = 902, 903
_SCENES_IN_TEN: Final = 3
_CAPTIONS: Final = 8
_QUALITY: Final = 92
_CHUNK: Final = 100
_TO_LEARN_FROM: Final = replace(HARD, look_alikes=0.35)


@dataclass(frozen=True, kw_only=True)
class ClipFigures:
    """Scores of a model on held-out images; all but the counts are 0..1.

    Attributes:
        accuracy: zero-shot, of images with one kind of thing.
        precision: of retrieval, averaged over the kinds.
        worst: the kind with the lowest precision, and that precision.
        maskclip_iou: mean IoU of MaskCLIP on scenes.
        at: images retrieved for a kind.
        corpus, scenes: numbers of images.
    """

    accuracy: float
    precision: float
    worst: tuple[str, float]
    maskclip_iou: float
    at: int
    corpus: int
    scenes: int

    def __str__(self) -> str:
        kind, lowest = self.worst
        return (
            f"zero-shot accuracy {self.accuracy:.1%}; retrieval precision@{self.at}"
            f" {self.precision:.1%} among {self.corpus:,} images (lowest {lowest:.0%}, {kind});"
            f" MaskCLIP's mIoU {self.maskclip_iou:.1%} on {self.scenes} scenes"
        )


def train_clip(
    out: Path,
    *,
    seed: int = 0,
    images: int = 24_000,
    minutes: float = 0.0,
    workers: int = 0,
    precision: str = "bfloat16",
    architecture: str = ARCHITECTURE,
    phases: Sequence[Phase] = (),
    start: Path | None = None,
    regions: bool = False,
    device: str = "auto",
) -> ClipFigures:
    """Train a CLIP on made images, write its weights, measure it, and print the results.

    Args:
        out: the safetensors file; weights are float16.
        seed: of the images, the initial weights, and all random changes.
        images: number of images made before the training, single things and scenes.
        minutes: limit of the training's time, without making the images; 0: no limit. A training
            that reaches the limit gives weights that depend on the machine's speed.
        workers: processes that make images; 0: as many as there are cores.
        precision: of the training, `float32` or `bfloat16`.
        architecture: one of open_clip's or ours.
        phases: parts of the training; none: those that suit `start`.
        start: weights to go on from, on images of the hard world as well; None: from scratch.
        regions: goes on with objects shown as regions of labels are, as well.
        device: auto, cpu, cuda or cuda:N. Weights trained on a GPU differ from those on a CPU.

    Raises:
        ConfigError: a setting can't work, or the device can't be used.
    """
    device = require_device(device)
    _check(out, seed, images, minutes)
    weights = read_weights(start) if start is not None else None
    console, started = Console(), time.monotonic()
    with waiting_for(console, "Drawing images", total=images, patience=0) as wait:
        pool = []
        for image in made_images(seed, images, workers, hard=start is not None):
            pool.append(image)
            wait.advance()
    console.print(f"{len(pool):,} images made in {time.monotonic() - started:.0f} s")
    going_on = REGION_PHASES if regions else MORE_PHASES
    with _reporting(console) as report:
        weights = train_in_phases(
            pool, phases or (PHASES if start is None else going_on), architecture=architecture,
            seed=seed, precision=precision, max_minutes=minutes, start=weights, on_step=report,
            device=device,
        )  # fmt: skip
    write_weights(weights, out)
    size, took = out.stat().st_size / 1e6, (time.monotonic() - started) / 60
    console.print(f"{out}: {size:.2f} MB, made in {took:.1f} minutes", soft_wrap=True)
    with waiting_for(console, "Measuring on images held out"):
        figures = measure_clip(out, architecture, device=device)
    console.print(f"On images held out: {figures}", soft_wrap=True)
    if start is not None:
        with waiting_for(console, "Measuring on images of the hard world"):
            hard = measure_clip(out, architecture, device=device, world="hard")
        console.print(f"On images of the hard world: {hard}", soft_wrap=True)
    return figures


def measure_clip(
    weights: Path,
    architecture: str = ARCHITECTURE,
    *,
    corpus: int = 1500,
    scenes: int = 100,
    at: int = 30,
    device: str = "cpu",
    world: World = "easy",
) -> ClipFigures:
    """Measure a file of weights on held-out images.

    Args:
        weights: of the architecture.
        architecture: of open_clip's or ours.
        corpus: images to retrieve from.
        scenes: images to segment.
        at: images to retrieve for each kind.
        device: cpu, cuda or cuda:N.
        world: of the images. In the hard one, look-alikes are background of the scenes.

    Raises:
        WeightsError: the file is missing or of another model.
    """
    spec = ClipSpec(architecture=architecture, weights=str(weights.absolute()))
    model = ModelConfig(architecture=architecture, weights=resolve(spec), device=device)
    clip = load_clip_model(model)
    images, held_out = _held_out(world, corpus, scenes)
    shows = np.array([_shows(image) for image in images])
    cosines = similarities(clip, [_as_jpeg(image) for image in images], KINDS)
    precisions = retrieval_precision(cosines, shows, at)
    worst = int(precisions.argmin())
    labels = [_labels(scene) for scene in held_out]
    return ClipFigures(
        accuracy=zero_shot_accuracy(cosines, shows),
        precision=float(precisions.mean()),
        worst=(KINDS[worst], float(precisions[worst])),
        maskclip_iou=maskclip_iou(clip, [_as_jpeg(scene) for scene in held_out], labels, KINDS),
        at=at,
        corpus=corpus,
        scenes=scenes,
    )


def _held_out(world: World, corpus: int, scenes: int) -> tuple[list[MadeImage], list[MadeImage]]:
    if world == "hard":
        return (
            [hard_image(_HELD_OUT_HARD_CORPUS, number) for number in range(corpus)],
            [hard_image(_HELD_OUT_HARD_SCENES, number) for number in range(scenes)],
        )
    return (
        [corpus_image(_HELD_OUT_CORPUS, number) for number in range(corpus)],
        [scene_image(_HELD_OUT_SCENES, number) for number in range(scenes)],
    )


def made_images(
    seed: int, count: int, workers: int = 0, *, hard: bool = False
) -> Iterator[CaptionedImage]:
    """Training images of the made world, made by several processes, in order.

    Args:
        seed: 0 or more; different seeds give different images.
        count: number of images; three of ten of the easy world are scenes.
        workers: processes; 0: as many as there are cores.
        hard: whether every other image is of the hard world.
    """
    chunks = [
        (_FIRST_SEED + seed, at, min(at + _CHUNK, count), hard) for at in range(0, count, _CHUNK)
    ]
    processes = min(workers or os.cpu_count() or 1, len(chunks))
    context = get_context("spawn")
    with ProcessPoolExecutor(processes, context, exit_with_parent) as pool:
        for made in pool.map(_make, chunks):
            yield from made


def _make(chunk: tuple[int, int, int, bool]) -> list[CaptionedImage]:
    seed, first, last, hard = chunk
    return [_captioned(seed, number, hard) for number in range(first, last)]


def _image(seed: int, number: int, hard: bool) -> MadeImage:
    if hard and number % 2:
        return hard_image(seed, number, KINDS_AND_SENSES, _TO_LEARN_FROM)
    place = number // 2 if hard else number
    make = scene_image if place % 10 < _SCENES_IN_TEN else corpus_image
    return make(seed, number, KINDS_AND_SENSES if hard else KINDS)


def _captioned(seed: int, number: int, hard: bool) -> CaptionedImage:
    image = _image(seed, number, hard)
    named = [one for one in image.objects if one.kind not in CLUTTER]
    centres = [np.argwhere(one.mask).mean(axis=0) for one in named]
    return CaptionedImage(
        pixels=_as_jpeg(image),
        # Each number gives a different caption.
        captions=tuple(
            caption(image, seed, number * _CAPTIONS + which) for which in range(_CAPTIONS)
        ),
        centres=np.array(centres, dtype=np.float32).reshape(-1, 2),
    )


def _as_jpeg(image: MadeImage) -> NDArray[np.uint8]:
    """The pixels with JPEG artefacts as in a corpus's files."""
    file = io.BytesIO()
    Image.fromarray(image.pixels).save(file, "JPEG", quality=_QUALITY)
    return np.asarray(Image.open(file))


def _shows(image: MadeImage) -> list[bool]:
    """For each kind, whether the image shows it."""
    kinds = {one.kind for one in image.objects}
    return [kind in kinds for kind in KINDS]


def _labels(image: MadeImage) -> NDArray[np.int64]:
    """int64 [h, w]: 0 background, from 1 the vocabulary's kinds; visible masks don't overlap."""
    labels = np.zeros(image.pixels.shape[:2], dtype=np.int64)
    for one in image.objects:
        if one.kind in KINDS:
            labels[one.mask] = KINDS.index(one.kind) + 1
    return labels


@contextmanager
def _reporting(console: Console) -> Iterator[Callable[[Phase, ClipStep], None]]:
    """A bar on a terminal, and a line for every tenth of a phase."""
    bars = Progress(console=console, transient=True, disable=not console.is_terminal)
    with showing_tenths(console, bars) as show:

        def report(phase: Phase, step: ClipStep) -> None:
            show(
                step.done,
                f"{phase.image_size} pixels",
                f"{phase.image_size} pixels {step.done:5.1%}: step {step.step:,},"
                f" loss {step.loss:.3f}, scale {step.scale:.1f}",
            )

        yield report


def _check(out: Path, seed: int, images: int, minutes: float) -> None:
    if out.suffix != ".safetensors":
        raise ConfigError(f"out is {out}: choose a name that ends with .safetensors.")
    check_named_numbers({"seed": seed, "images": images, "minutes": minutes})
    for name, value, least in (
        ("seed", seed, 0),
        ("images", images, 1),
        ("minutes", minutes, 0),
    ):
        if value < least:
            raise ConfigError(f"{name} is {value}: choose {least} or more.")
