"""`zutis.segmenter`: a trained network that predicts labels and instances of any categories."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flows.settings.devices import require_device
from flows.settings.shared import DEFAULT_STORE
from flows.upkeep.find_artifacts import LATEST

if TYPE_CHECKING:
    from storage.vocabularies.vocabulary import Category
    from tasks.prediction.segmenter import InstanceSettings, ZutisSegmenter


def segmenter(
    checkpoint: str | Path = LATEST,
    categories: Sequence[str | Category] | None = None,
    *,
    clip: str = "",
    device: str = "auto",
    precision: str = "float32",
    image_size: int = 1024,
    settings: InstanceSettings | None = None,
    store: str = DEFAULT_STORE,
) -> ZutisSegmenter:
    """A trained ZUTIS network that segments these categories.

    Args:
        checkpoint: key of a training or a prefix of it; `latest`; a folder or file; a name from
            `zutis weights list`; or ARCH:random:SEED.
        categories: names, those of training or not; None for those of training.
        clip: ARCHITECTURE:WEIGHTS of the text tower; empty for the checkpoint's own.
        device: auto, cpu, cuda or cuda:N.
        precision: float32 or bfloat16.
        image_size: limit of the longer side of the network's input, pixels; 0 for none.
        settings: how instances are chosen.
        store: the artifact store in which keys and `latest` are searched.

    Raises:
        ZutisError: one sentence: there is no such model, its weights are missing or damaged, or
            the categories are not usable.
    """
    from flows.pipelines.training import checkpoint_place
    from tasks.prediction.segmenter import zutis_segmenter

    device = require_device(device)
    return zutis_segmenter(
        checkpoint_place(checkpoint, store),
        categories,
        clip=clip,
        device=device,
        precision=precision,
        image_size=image_size,
        settings=settings,
    )
