"""The preview of a training: a sheet of crops with pseudo-labels and predictions."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from tasks.prediction.overlays import draw_labels

if TYPE_CHECKING:
    from tasks.training.log import Preview

_GAP = 4


def draw_preview(preview: Preview, names: Sequence[str]) -> bytes:
    """A PNG with a row for each crop: the image, its pseudo-labels, the network's prediction.

    Args:
        preview: the crops. Ignored pixels look like the background.
        names: of categories 1 to k.
    """
    rows = [
        [
            draw_labels(pixels, np.where(labels <= len(names), labels, 0), names)
            for labels in (np.zeros_like(truth), truth, predicted)
        ]
        for pixels, truth, predicted in zip(
            _pixels(preview),
            preview.labels.numpy().astype(np.int64),
            preview.predictions.numpy().astype(np.int64),
            strict=True,
        )
    ]
    width, height = rows[0][0].size
    sheet = Image.new("RGB", (3 * (width + _GAP) - _GAP, len(rows) * (height + _GAP) - _GAP))
    for top, row in enumerate(rows):
        for left, panel in enumerate(row):
            sheet.paste(panel, (left * (width + _GAP), top * (height + _GAP)))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def _pixels(preview: Preview) -> np.ndarray:
    """The crops before normalisation: uint8 [n, h, w, 3]."""
    from zutis_model.layers.normalisation import IMAGENET_MEAN, IMAGENET_STD

    channels_last = preview.images.permute(0, 2, 3, 1).numpy()
    unit = channels_last * np.array(IMAGENET_STD) + np.array(IMAGENET_MEAN)
    pixels: np.ndarray = (unit * 255).round().clip(0, 255).astype(np.uint8)
    return pixels
