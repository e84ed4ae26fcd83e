"""`zutis predict`: segment own pictures with a trained network and any names."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from flows.commands.corpus_options import (
    ExcludeOption,
    IncludeOption,
    UriColumnOption,
    tell_other_files,
    tell_warnings,
)
from flows.settings.build import DEFAULT_STORE, clip_model
from flows.settings.devices import require_device
from flows.terminal.waiting import CountedProgress, waiting_for
from storage.corpora.selection import Selection
from storage.errors.exceptions import ConfigError, CorpusError, VocabularyError
from storage.errors.numbers import check_named_numbers
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


def predict_pictures(
    images: Annotated[
        list[str],
        typer.Argument(
            help="What `build` takes as --corpus: pictures, folders, patterns such as"
            " 'photos/*.jpg', tars, tables, lists, COCO JSON."
        ),
    ],
    checkpoint: Annotated[
        str,
        typer.Option(
            help="Key of a training, its beginning, or latest; a folder or file; a name that `zutis"
            " weights list` shows; ARCH:random:SEED; or maskclip: CLIP without training."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the predictions.")],
    categories: Annotated[
        str, typer.Option(help='Names, separated by commas, such as "zebra,red kite".')
    ] = "",
    vocabulary: Annotated[
        str, typer.Option(help="Name or path of a vocabulary, in place of --categories.")
    ] = "",
    clip: Annotated[
        str, typer.Option(help="ARCHITECTURE:WEIGHTS that reads the names; else the checkpoint's.")
    ] = "",
    min_score: Annotated[float, typer.Option(help="Leave out instances of a lower score.")] = 0.5,
    nms: Annotated[
        str, typer.Option(help="Overlapping instances: hard, linear, gaussian or none.")
    ] = "hard",
    nms_iou: Annotated[
        float, typer.Option(help="Overlap that hard and linear still allow, 0 to 1.")
    ] = 0.3,
    nms_sigma: Annotated[float, typer.Option(help="Width of gaussian.")] = 0.5,
    image_size: Annotated[
        int, typer.Option(help="Longer side that the network sees at most, pixels; 0: no limit.")
    ] = 1024,
    batch: Annotated[int, typer.Option(help="Pictures in memory at a time.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    include: IncludeOption = None,
    exclude: ExcludeOption = None,
    uri_column: UriColumnOption = "",
    image_ids: Annotated[
        str,
        typer.Option(
            help="COCO JSON whose image ids are to be written, to score against it; else that of"
            " the pictures, or 1, 2, 3 …"
        ),
    ] = "",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace earlier predictions in the folder.")
    ] = False,
    store: Annotated[
        str, typer.Option(help="Folder of the artifacts, for keys and latest.")
    ] = DEFAULT_STORE,
) -> None:
    """Segment pictures: COCO JSON, label maps and overlays, for names seen in training or not."""
    from flows.pipelines.training import checkpoint_place
    from tasks.prediction.predict import (
        check_folder,
        find_images,
        own_ids,
        predict,
        prepare_folder,
        unused_ids,
    )
    from tasks.prediction.segmenter import InstanceSettings

    started = time.monotonic()
    console = Console()
    names = _names(categories, vocabulary)
    settings = InstanceSettings(
        suppression=nms,  # type: ignore[arg-type]  # checked there
        suppression_threshold=nms_iou,
        sigma=nms_sigma,
        min_score=min_score,
    )
    check_named_numbers({"batch": batch, "image_size": image_size})
    if batch < 1:
        raise ConfigError(f"batch is {batch}: use at least 1.")
    device = require_device(device)
    check_folder(out, overwrite=overwrite)
    selection = Selection.of(include or (), exclude or ())
    pictures = find_images(images, without=out, selection=selection, uri_column=uri_column)
    ids = _image_ids(image_ids, images, console)
    if ids is not None:
        ids.check(pictures)
    checkpoint = checkpoint_place(checkpoint, store)
    with waiting_for(console, "Loading the network", patience=0):
        segmenter = _segmenter(checkpoint, names, clip, device, precision, image_size, settings)
    prepare_folder(out, overwrite=overwrite)
    if names is None:
        _tell_names(console, segmenter)
    if sentence := unused_ids(names):
        console.print(f"Note: {sentence}", highlight=False, markup=False, soft_wrap=True)
    total = pictures.entries.num_rows + pictures.rejects.num_rows
    with waiting_for(console, "Segmenting pictures", total=total) as wait:
        summary = predict(
            pictures,
            segmenter,
            out,
            batch=batch,
            progress=CountedProgress(wait),
            category_ids=own_ids(names),
            selection=selection,
            image_ids=ids,
        )
    _report(console, summary, segmenter, out, min_score, time.monotonic() - started)


def _names(categories: str, vocabulary: str) -> tuple[str | Category, ...] | None:
    """What the options name; None for the checkpoint's own categories."""
    if categories and vocabulary:
        raise VocabularyError("Both --categories and --vocabulary are given: give one of them.")
    if vocabulary:
        return load_vocabulary(vocabulary).categories
    if not categories:
        return None
    names = (name.strip() for name in categories.split(","))
    return tuple(name for name in names if name)


def _image_ids(file: str, images: list[str], console: Console) -> ImageIds | None:
    """The ids of the file that is given, else of the COCO files that the pictures are."""
    from tasks.prediction.image_ids import ids_of_corpus, ids_of_file

    if file:
        return ids_of_file(file)
    try:
        ids = ids_of_corpus(images)
    except CorpusError as error:
        sentence = f"Note: {error} The pictures are numbered from 1."
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)
        return None
    if ids is not None:
        sentence = f"Image ids are those of {ids.label}."
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)
    return ids


def _segmenter(
    checkpoint: str,
    names: tuple[str | Category, ...] | None,
    clip: str,
    device: str,
    precision: str,
    image_size: int,
    settings: InstanceSettings,
) -> DenseSegmenter:
    from tasks.prediction.segmenter import maskclip_segmenter, zutis_segmenter

    if checkpoint == MASKCLIP:
        if names is None:
            raise VocabularyError("MaskCLIP needs names: give --categories or --vocabulary.")
        return maskclip_segmenter(
            clip_model(clip or _MASKCLIP_CLIP, device, precision),
            names,
            image_size=image_size,
            min_score=settings.min_score,
        )
    if precision == "auto":
        precision = "float32" if device == "cpu" else "bfloat16"
    return zutis_segmenter(
        checkpoint,
        names,
        clip=clip,
        device=device,
        precision=precision,
        image_size=image_size,
        settings=settings,
    )


def _tell_names(console: Console, segmenter: DenseSegmenter) -> None:
    names = segmenter.categories
    console.print(
        f"Looking for the {len(names):,} names that {segmenter.label} was trained with:"
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
        f"{summary.images:,} pictures, {summary.instances:,} instances of"
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
