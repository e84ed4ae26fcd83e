"""`zutis selfmask train`: train SelfMask on a corpus without labels."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import numpy as np
from cyclopts import App
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from flows.commands.options import command_of
from flows.settings.build import selfmask_model
from flows.settings.devices import require_device
from flows.settings.selfmask import SelfMaskFigures, SelfMaskSettings
from flows.summaries.corpus_notes import tell_other_files, tell_warnings
from flows.terminal.tenths import showing_tenths
from flows.terminal.waiting import CountedProgress, waiting_for
from storage.corpora.selection import Selection
from storage.errors.exceptions import ConfigError
from storage.errors.reject_reasons import REJECT_REASONS

if TYPE_CHECKING:
    from tasks.saliency_training.corpus import CorpusImage, CorpusSample
    from tasks.saliency_training.patch_features import PatchFeatures
    from tasks.saliency_training.training import SelfMaskStep, SelfMaskTrainingConfig
    from tasks.saliency_training.votes import Mask, VoteConfig

selfmask_app = App(name="selfmask", help="Train SelfMask on own images, without labels.")

_MOST_MEASURED: Final = 300


def run(settings: SelfMaskSettings) -> SelfMaskFigures:
    """Read images, vote, train, write the weights, measure; print each result.

    Raises:
        ConfigError: a setting can't work.
        CorpusError: there are no images, or none has a salient object.
        WeightsError: weights of the features or of the start are missing.
    """
    console, started = Console(), time.monotonic()
    device = require_device(settings.device)
    with waiting_for(console, "Loading the networks", patience=0):
        from tasks.saliency_training.batches import size_for_whole_images
        from tasks.saliency_training.scores import network_iou
        from tasks.saliency_training.training import (
            adaptable_selfmask,
            new_selfmask,
            train_selfmask,
            write_selfmask,
        )

        precision = _precision(settings, device)
        votes = _votes(settings)
        _training(settings)  # finds mistakes before anything is read
        if settings.start:
            network = adaptable_selfmask(selfmask_model(settings.start, device, precision))
        else:
            network = new_selfmask(
                width=settings.width,
                encoder_layers=settings.layers,
                decoder_layers=settings.decoder_layers,
                queries=settings.queries,
                image_size=settings.image_size,
                seed=settings.seed,
                precision=precision,
                device=device,
            )
        sources = _sources(settings, device, precision)
    sample = _read(settings, console)
    truths = _truths(settings, sample)
    masks = truths if settings.learn_truth else _voted(votes, sources, sample, console)
    images = [image.pixels for image in sample.images]
    learned = sum(bool(mask.any()) for mask in masks)
    config = _training(settings, learned)
    with _reporting(console) as (report, last):
        train_selfmask(network, images, masks, config, report)
    write_selfmask(network.state_dict(), settings.out)

    seen = settings.image_size
    if settings.views == "parts":
        seen = size_for_whole_images(settings.image_size)
    with waiting_for(console, "Measuring"):
        raw, refined = network_iou(network, images, truths, image_size=seen, at_most=_MOST_MEASURED)
    figures = SelfMaskFigures(
        images=len(images),
        learned=learned,
        loss=last[0].loss,
        dice=last[0].dice,
        votes_iou=math.nan if settings.learn_truth else _voted_iou(masks, truths),
        network_iou=raw,
        refined_iou=refined,
    )
    _conclude(console, settings, figures, seen, time.monotonic() - started)
    return figures


@selfmask_app.command(name="train")
@command_of(SelfMaskSettings)
def train_command(settings: SelfMaskSettings) -> None:
    """Train SelfMask on own images: clusters of features vote for masks, the network learns them.

    No label is needed. The file can be given to `zutis build --selfmask`.
    """
    run(settings)


def _training(settings: SelfMaskSettings, learned: int = 1) -> SelfMaskTrainingConfig:
    """How to train on so many images with a mask."""
    from tasks.saliency_training.training import SelfMaskTrainingConfig

    return SelfMaskTrainingConfig(
        steps=settings.epochs * max(1, -(-learned // settings.batch_size)) or settings.steps,
        batch_size=settings.batch_size,
        image_size=settings.image_size,
        learning_rate=settings.highest_rate,
        **({"warmup_steps": 0} if settings.schedule == "poly" else {}),
        schedule=settings.schedule,
        views=settings.views,
        cross_entropy_weight=settings.cross_entropy,
        max_seconds=60 * settings.minutes,
        seed=settings.seed,
    )


def _precision(settings: SelfMaskSettings, device: str) -> str:
    if settings.precision != "auto":
        return settings.precision
    return "float32" if device == "cpu" else "bfloat16"


def _sources(settings: SelfMaskSettings, device: str, precision: str) -> list[PatchFeatures]:
    """The networks that give features; found before any image is read."""
    from tasks.saliency_training.patch_features import load_patch_features

    if settings.learn_truth:
        return []
    return [
        load_patch_features(spec, device=device, precision=precision) for spec in settings.features
    ]


def _votes(settings: SelfMaskSettings) -> VoteConfig:
    from tasks.saliency_training.votes import VoteConfig

    return VoteConfig(patches=settings.patches, least_agreement=settings.least_agreement)


def _voted(
    config: VoteConfig,
    sources: list[PatchFeatures],
    sample: CorpusSample,
    console: Console,
) -> list[Mask]:
    """A mask for every image, empty where the vote elected none."""
    from tasks.saliency_training.votes import pseudo_masks

    started, images = time.monotonic(), [image.pixels for image in sample.images]
    masks, agreements = [], []
    with waiting_for(console, "Voting for masks", total=len(images), patience=0) as wait:
        for pixels, found in zip(images, pseudo_masks(images, sources, config), strict=True):
            masks.append(found.mask if found else np.zeros(pixels.shape[:2], dtype=np.bool_))
            agreements += [found.agreement] if found else []
            wait.advance()
    mean = f", mean agreement {np.mean(agreements):.2f}" if agreements else ""
    console.print(
        f"{len(agreements):,} pseudo-masks from {', '.join(each.label for each in sources)}{mean},"
        f" in {time.monotonic() - started:.0f} s",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    return masks


def _read(settings: SelfMaskSettings, console: Console) -> CorpusSample:
    from tasks.saliency_training.corpus import read_sample

    with waiting_for(console, "Reading images") as wait:
        sample = read_sample(
            settings.corpus,
            at_most=settings.max_images,
            # So that the smallest part that is cut out needs no magnifying.
            shorter_side=2 * settings.image_size,
            seed=settings.seed,
            progress=CountedProgress(wait),
            selection=Selection.of(settings.include, settings.exclude),
            uri_column=settings.uri_column,
        )
    console.print(f"{len(sample.images):,} images", highlight=False)
    for reason, number in sorted(sample.rejects.items()):
        console.print(
            f"{number:,} left out, {reason}: {REJECT_REASONS[reason]}.",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip
    tell_warnings(console, sample.warnings)
    tell_other_files(console, sample.ignored)
    return sample


def _truths(settings: SelfMaskSettings, sample: CorpusSample) -> list[Mask]:
    """The ground-truth mask of each image, at its size; empty without objects or without truth.

    Raises:
        ConfigError: the file holds no ground truth, or none of these images.
    """
    from made_world.corpus import read_ground_truth

    if settings.truth is None:
        return [np.zeros(image.pixels.shape[:2], dtype=np.bool_) for image in sample.images]
    try:
        known = read_ground_truth(settings.truth.parent)
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{settings.truth} can't be read as the truth about a made corpus: {error!r}."
        ) from error
    if not any(image.name in known for image in sample.images):
        raise ConfigError(f"{settings.truth} is about none of the images in the corpus.")
    return [
        _union([mask for _, mask in known.get(image.name, [])], image) for image in sample.images
    ]


def _union(masks: list[Mask], image: CorpusImage) -> Mask:
    from tasks.saliency_training.scores import at_size

    size = (image.pixels.shape[0], image.pixels.shape[1])
    union = np.zeros(size, dtype=np.bool_)
    for mask in masks:
        union |= at_size(mask, size)
    return union


def _voted_iou(masks: list[Mask], truths: list[Mask]) -> float:
    from tasks.saliency_training.scores import mean_iou

    pairs = [(mask, truth) for mask, truth in zip(masks, truths, strict=True) if mask.any()]
    return mean_iou((mask for mask, _ in pairs), (truth for _, truth in pairs))


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip


@contextmanager
def _reporting(
    console: Console,
) -> Iterator[tuple[Callable[[SelfMaskStep], None], list[SelfMaskStep]]]:
    """A bar on a terminal, and a line for every tenth of the training.

    Yields:
        a function to call after every step, and a list that holds the last step.
    """
    last: list[SelfMaskStep] = []
    with showing_tenths(console, _bar(console)) as show:

        def report(step: SelfMaskStep) -> None:
            last[:] = [step]
            show(
                step.done,
                "training",
                f"{step.done:5.1%}: step {step.step:,}, loss {step.loss:.2f}, dice {step.dice:.3f}",
            )

        yield report, last


def _conclude(
    console: Console,
    settings: SelfMaskSettings,
    figures: SelfMaskFigures,
    image_size: int,
    seconds: float,
) -> None:
    size = settings.out.stat().st_size / 1e6
    lines = [
        f"{settings.out}: {size:.2f} MB, learned from {figures.learned:,} of {figures.images:,}"
        f" images in {seconds / 60:.1f} minutes; last loss {figures.loss:.2f}"
        f" (dice {figures.dice:.3f})",
    ]
    if settings.truth is not None:
        votes = "" if settings.learn_truth else f"pseudo-masks {figures.votes_iou:.3f}, "
        lines.append(
            f"Mean IoU with the truth: {votes}network {figures.network_iou:.3f},"
            f" refined {figures.refined_iou:.3f}"
        )
    lines.append(f"Use: zutis build --selfmask {settings.out} --mask-size {image_size} …")
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
