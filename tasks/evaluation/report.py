"""Files of an evaluation: the table by category, the predictions, and a sheet of images.

All are functions of their arguments alone; equal scores give equal bytes.

Dimensions:
    h, w  rows, columns of an image as annotated
    k     categories that scores are given for, without the background
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tasks.prediction.overlays import draw_labels

COLUMNS = ("category_id", "name", "prompts", "group", "iou", "accuracy", "pixels",
           "predicted_pixels", "ap", "objects", "predicted_objects")  # fmt: skip

_ROWS_OF_A_KIND = 3
_COLUMN_TITLES = ("image", "truth", "prediction")
# Pixels: the shorter side of a drawn image, the limit of its longer side, and the longest side of
# a panel of the sheet.
_SHORTER_SIDE, _LONGEST_SIDE, _LONGEST_PANEL = 320, 2048, 640
_GAP, _LINE = 8, 26


@dataclass(frozen=True)
class Chosen:
    """An image of the sheet: the reason for its choice, and its index."""

    title: str
    index: int


@dataclass(frozen=True, kw_only=True, eq=False)
class SheetRow:
    """An image of the sheet, with ground truth and prediction.

    Attributes:
        title: written above it.
        pixels: uint8 [h, w, 3].
        truth, predicted: int64 [h, w] in 0..k; ignored pixels have any higher label.
    """

    title: str
    pixels: NDArray[np.uint8]
    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]


def per_class_csv(classes: Sequence[Mapping[str, Any]], prompts: Sequence[Sequence[str]]) -> bytes:
    """A row for the background and each category; undefined scores are empty cells.

    Args:
        classes: rows as in `Scores.result`.
        prompts: of each row's category, the background first; a cell has them all, one per line.
            Empty where one row stands for several categories.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for number, row in enumerate(classes):
        sentences = "\n".join(prompts[number]) if prompts else ""
        writer.writerow({**row, "prompts": sentences})
    return text.getvalue().encode()


def predictions_json(predictions: Sequence[Mapping[str, Any]]) -> bytes:
    """A JSON list with one prediction per line, as `COCO.loadRes` reads it."""
    rows = ",".join(f"\n{json.dumps(row, separators=(',', ':'))}" for row in predictions)
    return f"[{rows}\n]\n".encode()


def choose_images(scores: Sequence[float]) -> list[Chosen]:
    """The best, the median and the worst images, at most three of each and none twice.

    Args:
        scores: of each image, NaN for one without a score. Of equal scores the first is better.
    """
    order = [index for index, score in enumerate(scores) if not math.isnan(score)]
    order.sort(key=lambda index: (-scores[index], index))
    number = min(_ROWS_OF_A_KIND, max(1, len(order) // 3))
    middle = (len(order) - number) // 2
    kinds = {
        "best": order[:number],
        "worst": order[::-1][:number],
        "median": order[middle : middle + number],
    }
    taken: set[int] = set()
    chosen: dict[str, list[Chosen]] = {}
    for kind, indices in kinds.items():
        fresh = [index for index in indices if index not in taken]
        taken |= set(fresh)
        chosen[kind] = [Chosen(f"{kind} {n}", index) for n, index in enumerate(fresh, start=1)]
    return [*chosen["best"], *chosen["median"], *chosen["worst"]]


def draw_sheet(title: str, rows: Sequence[SheetRow], names: Sequence[str]) -> bytes:
    """Images beside their ground truth and prediction, as a PNG.

    Ignored pixels are white in the ground truth.

    Args:
        title: written at the top.
        rows: from top to bottom; none gives the title alone.
        names: of the k categories.
    """
    panels = [_panels(row, names) for row in rows]
    column = max((panel.width for three in panels for panel in three), default=_SHORTER_SIDE)
    height = 2 * _LINE + sum(_LINE + three[0].height + _GAP for three in panels)
    sheet = Image.new("RGB", (3 * (column + _GAP) + _GAP, height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    draw.text((_GAP, 6), title, "black", font)
    for number, text in enumerate(_COLUMN_TITLES):
        draw.text((_GAP + number * (column + _GAP), _LINE + 4), text, "dimgrey", font)
    y = 2 * _LINE
    for row, three in zip(rows, panels, strict=True):
        draw.text((_GAP, y + 4), row.title, "black", font)
        y += _LINE
        for number, panel in enumerate(three):
            sheet.paste(panel, (_GAP + number * (column + _GAP), y))
        y += three[0].height + _GAP
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def _panels(row: SheetRow, names: Sequence[str]) -> list[Image.Image]:
    """Image, ground truth and prediction, all of the same size."""
    sides = row.pixels.shape[:2]
    scale = min(_SHORTER_SIDE / min(sides), _LONGEST_SIDE / max(sides))
    height, width = (max(1, round(side * scale)) for side in sides)
    image = Image.fromarray(row.pixels).resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(image)
    truth, predicted = (_nearest(labels, height, width) for labels in (row.truth, row.predicted))
    counts = truth <= len(names)
    panels = [image, draw_labels(pixels, np.where(counts, truth, 0), names)]
    panels[1] = _whitened(panels[1].resize((width, height)), ~counts)
    panels.append(draw_labels(pixels, predicted, names).resize((width, height)))
    for panel in panels:
        panel.thumbnail((_LONGEST_PANEL, _LONGEST_PANEL))
    return panels


def _nearest(labels: NDArray[np.int64], height: int, width: int) -> NDArray[np.int64]:
    rows = np.arange(height) * labels.shape[0] // height
    columns = np.arange(width) * labels.shape[1] // width
    found: NDArray[np.int64] = labels[rows[:, None], columns]
    return found


def _whitened(image: Image.Image, where: NDArray[np.bool_]) -> Image.Image:
    pixels = np.array(image)
    pixels[where] = 255
    return Image.fromarray(pixels)
