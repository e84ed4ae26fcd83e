"""`zutis predict`: segment images with a trained model and any categories."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from flows.commands.options import command_of
from flows.settings.build import clip_model
from flows.settings.devices import require_device
from flows.settings.prediction import PredictOptions
from flows.summaries.corpus_notes import tell_other_files, tell_warnings
from flows.terminal.waiting import CountedProgress, waiting_for
from storage.corpora.selection import Selection
from storage.errors.exceptions import CorpusError, VocabularyError
from storage.errors.reject_reasons import REJECT_REASONS
from storage.errors.sentences import listed
from storage.vocabularies.vocabulary import Category, load_vocabulary

if TYPE_CHECKING:
    from tasks.prediction.dense_segmenter import DenseSegmenter
    from tasks.prediction.image_ids import ImageIds
    from tasks.prediction.predict import Summary
    from tasks.prediction.segmenter import InstanceSettings

MASKCLIP = "maskclip"
_NAMES_SHOWN = 10
_MASKCLIP_CLIP = "ViT-B-16-quickgelu:openai"


@command_of(PredictOptions, positional="images")
def predict_command(options: PredictOptions) -> None:
    """Segment images with a trained model and any categories: COCO JSON, label maps, overlays."""
    predict(options)


def predict(options: PredictOptions) -> None:
    """Segment, and print a summary.

    Raises:
        ZutisError: one sentence, for the user.
    """
    from flows.pipelines.training import checkpoint_place
    from tasks.prediction.predict import (
        check_folder,
        find_images,
        own_ids,
        prepare_folder,
        unused_ids,
    )
    from tasks.prediction.predict import predict as predict_images

    started = time.monotonic()
    console = Console()
    names = _names(options.categories, options.vocabulary)
    settings = options.instances
    device = require_device(options.device)
    images, out = list(options.images), options.out
    check_folder(out, overwrite=options.overwrite)
    selection = Selection.of(options.include, options.exclude)
    found = find_images(images, without=out, selection=selection, uri_column=options.uri_column)
    ids = _image_ids(options.image_ids, images, console)
    if ids is not None:
        ids.check(found)
    checkpoint = checkpoint_place(options.checkpoint, options.store)
    with waiting_for(console, "Loading the network", patience=0):
        segmenter = _segmenter(checkpoint, names, options, device, settings)
    prepare_folder(out, overwrite=options.overwrite)
    if names is None:
        _tell_names(console, segmenter)
    if sentence := unused_ids(names):
        console.print(f"Note: {sentence}", highlight=False, markup=False, soft_wrap=True)
    category_ids = own_ids(names)
    if ids is not None and not category_ids:
        category_ids = _numbers_by_name(ids, segmenter.categories, console)
    total = found.entries.num_rows + found.rejects.num_rows
    with waiting_for(console, "Segmenting images", total=total) as wait:
        summary = predict_images(
            found,
            segmenter,
            out,
            batch=options.batch_size,
            progress=CountedProgress(wait),
            category_ids=category_ids,
            selection=selection,
            image_ids=ids,
        )
    _report(console, summary, segmenter, out, options.min_score, time.monotonic() - started)


def _names(categories: str, vocabulary: str) -> tuple[str | Category, ...] | None:
    """The categories that the options name; None for the checkpoint's own."""
    if categories and vocabulary:
        raise VocabularyError("Both --categories and --vocabulary are given: give one of them.")
    if vocabulary:
        return load_vocabulary(vocabulary).categories
    if not categories:
        return None
    names = (name.strip() for name in categories.split(","))
    return tuple(name for name in names if name)


def _image_ids(file: str, images: list[str], console: Console) -> ImageIds | None:
    """Image ids from the given COCO file, else from the COCO files among the images."""
    from tasks.prediction.image_ids import ids_of_corpus, ids_of_file

    if file:
        return ids_of_file(file)
    try:
        ids = ids_of_corpus(images)
    except CorpusError as error:
        sentence = f"Note: {error} The images are numbered from 1."
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)
        return None
    if ids is not None:
        sentence = f"Image ids are those of {ids.label}."
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)
    return ids


def _numbers_by_name(
    image_ids: ImageIds, names: Sequence[str], console: Console
) -> tuple[int, ...]:
    """Category ids of the COCO file that the image ids are from, found by name."""
    from tasks.prediction.category_numbers import numbers_by_name

    numbers = numbers_by_name(names, image_ids.files)
    console.print(numbers.sentence, highlight=False, markup=False, soft_wrap=True)
    return numbers.ids


def _segmenter(
    checkpoint: str,
    names: tuple[str | Category, ...] | None,
    options: PredictOptions,
    device: str,
    settings: InstanceSettings,
) -> DenseSegmenter:
    from tasks.prediction.segmenter import maskclip_segmenter, zutis_segmenter

    if checkpoint == MASKCLIP:
        if names is None:
            raise VocabularyError("MaskCLIP needs names: give --categories or --vocabulary.")
        return maskclip_segmenter(
            clip_model(options.clip or _MASKCLIP_CLIP, device, options.precision),
            names,
            image_size=options.image_size,
            min_score=settings.min_score,
        )
    precision: str = options.precision
    if precision == "auto":
        precision = "float32" if device == "cpu" else "bfloat16"
    return zutis_segmenter(
        checkpoint,
        names,
        clip=options.clip,
        device=device,
        precision=precision,
        image_size=options.image_size,
        settings=settings,
    )


def _tell_names(console: Console, segmenter: DenseSegmenter) -> None:
    names = segmenter.categories
    console.print(
        f"Looking for the {len(names):,} categories that {segmenter.label} was trained with:"
        f" {listed(names, _NAMES_SHOWN)}.",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _tell_highest_score(console: Console, highest: float | None, min_score: float) -> None:
    if highest is None:
        sentence = "The network proposed no instance at all."
    else:
        sentence = (
            f"No instance has a score of {min_score:g} or more; the highest is {highest:.3f}:"
            " lower --min-score to see more."
        )
    console.print(sentence, style="yellow", highlight=False, markup=False, soft_wrap=True)


def _report(
    console: Console,
    summary: Summary,
    segmenter: DenseSegmenter,
    out: Path,
    min_score: float,
    seconds: float,
) -> None:
    console.print(
        f"{summary.images:,} images, {summary.instances:,} instances of"
        f" {len(segmenter.categories):,} categories, by {segmenter.label}, in {seconds:.1f} s.",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    if not summary.instances:
        _tell_highest_score(console, segmenter.highest_score, min_score)
    for reason, number in sorted(summary.rejects.items()):
        console.print(
            f"{number:,} left out, {reason}: {REJECT_REASONS[reason]}.",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    tell_warnings(console, summary.warnings)
    tell_other_files(console, summary.ignored)
    if segmenter.untrained:
        console.print("[bold yellow]Untrained weights: the predictions mean nothing.[/]")
    console.print(f"Folder: {out}", highlight=False, markup=False, soft_wrap=True)
