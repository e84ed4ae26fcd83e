"""The best and the worst labels of a data set side by side, as one picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from storage.artifacts.store import Artifact
from storage.images.records import read_parquet
from storage.shards.samples import ShardSamples
from tasks.packing.mask_sheet import LONGER_SIDE, as_jpeg, draw_sample
from tasks.stage.layout import CHOSEN_LABELS

_COLUMNS, _ROWS = 3, 3
_GAP, _CAPTION, _HEADING = 6, 18, 30
_BETWEEN: Final = 30
"""Pixels from one half to the other."""


def quality_of(samples: ShardSamples, chosen: Artifact) -> npt.NDArray[np.float64]:
    """The quality of each sample's label, float64 [n], NaN where it has none.

    Args:
        samples: of a build's data set, all categories.
        chosen: of `choose_labels`, of the same build.
    """
    with chosen.open(CHOSEN_LABELS) as file:
        rows = read_parquet(file, columns=["image_id", "category_id", "quality"]).to_pylist()
    known = {(row["image_id"], row["category_id"]): row["quality"] for row in rows}
    labels = samples.labels.tolist()
    found = [known.get((samples.key(i), label)) for i, label in enumerate(labels)]
    return np.array([np.nan if each is None else each for each in found], dtype=np.float64)


def draw_best_and_worst(samples: ShardSamples, quality: npt.NDArray[np.float64]) -> bytes:
    """A JPEG: on the left the labels of highest quality, on the right those of lowest.

    No category has more than its share of a half, so that both show what the data set has.

    Args:
        samples: n of them.
        quality: [n], 0..1 or NaN.

    Returns:
        The file; empty if no label has a quality.

    Raises:
        ArtifactError: a sample is damaged.
        StorageError: a shard can't be read.
    """
    order = np.argsort(quality, kind="stable")[: int(np.count_nonzero(~np.isnan(quality)))]
    if not len(order):
        return b""
    halves = {
        "Highest quality": _few_of_each(samples, order[::-1].tolist()),
        "Lowest quality": _few_of_each(samples, order.tolist()),
    }
    cell = LONGER_SIDE + _GAP, LONGER_SIDE + _CAPTION + _GAP
    half = _COLUMNS * cell[0]
    rows = max(-(-len(chosen) // _COLUMNS) for chosen in halves.values())
    sheet = Image.new(
        "RGB", (2 * half + _BETWEEN + _GAP, _HEADING + rows * cell[1] + _GAP), "white"
    )
    draw = ImageDraw.Draw(sheet)
    for side, (heading, chosen) in enumerate(halves.items()):
        left = _GAP + side * (half + _BETWEEN)
        draw.text((left, _GAP), heading, "black", ImageFont.load_default(18))
        for number, index in enumerate(chosen):
            x, y = left + number % _COLUMNS * cell[0], _HEADING + number // _COLUMNS * cell[1]
            name = samples.categories[int(samples.labels[index])]
            caption = f"{name[:20]}, {quality[index]:.2f}"
            draw.text((x, y), caption, "black", ImageFont.load_default(13))
            drawn = draw_sample(samples, index)
            sheet.paste(drawn, (x + (LONGER_SIDE - drawn.width) // 2, y + _CAPTION))
    return as_jpeg(sheet)


def _few_of_each(samples: ShardSamples, order: Sequence[int]) -> list[int]:
    """The first of an order, of each category no more than others have room for."""
    wanted = _COLUMNS * _ROWS
    categories = len({int(samples.labels[i]) for i in order})
    most = -(-wanted // categories)
    taken: list[int] = []
    counts: Counter[int] = Counter()
    for i in order:
        label = int(samples.labels[i])
        if counts[label] < most and len(taken) < wanted:
            counts[label] += 1
            taken.append(i)
    return taken
