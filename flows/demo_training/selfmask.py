"""`zutis demo-train selfmask`: train the small SelfMask of the demonstration, without labels.

This is `zutis selfmask train` on a corpus of made images. Its seeds differ from those of the
demonstration, as in `flows.demo_training.clip`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console

from flows.commands.selfmask import run
from flows.demo.settings import MASK_SIZE
from flows.settings.build import selfmask_model
from flows.settings.devices import require_device
from flows.settings.selfmask import SelfMaskFigures, SelfMaskSettings
from flows.terminal.waiting import waiting_for
from made_world.corpus import write_corpus
from made_world.scenes.images import corpus_image
from storage.errors.exceptions import ConfigError

_FIRST_SEED: Final = 1000
_HELD_OUT: Final = 900
_SETTINGS: Final = {
    "features": ("colours",),
    "patches": 400,
    "width": 128,
    "layers": 6,
    "decoder_layers": 2,
    "queries": 10,
    "image_size": 128,
    "precision": "bfloat16",
}


def train_selfmask(
    out: Path,
    *,
    seed: int = 0,
    images: int = 2000,
    steps: int = 2000,
    held_out: int = 300,
    device: str = "auto",
) -> SelfMaskFigures:
    """Train a SelfMask on made images, write its weights, measure it, and print the results.

    The ground truth is used for the scores only.

    Args:
        out: the safetensors file; weights are float16.
        seed: of the images, the initial weights, and all random changes.
        images: number of images of the corpus.
        steps: number of batches.
        held_out: number of held-out images to measure on.
        device: auto, cpu, cuda or cuda:N. Weights trained on a GPU differ from those on a CPU.

    Raises:
        ConfigError: a setting can't work, or the device can't be used.
    """
    device, console = require_device(device), Console()
    if images < 1 or seed < 0:
        raise ConfigError(f"images is {images} and seed {seed}: choose 1 and 0 or more.")
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder)
        with waiting_for(console, f"Drawing {images:,} images", patience=0):
            write_corpus(corpus, _FIRST_SEED + seed, images)
        settings = SelfMaskSettings(
            corpus=(str(corpus / "pictures"),),
            truth=corpus / "truth.json",
            out=out,
            max_images=0,
            steps=steps,
            seed=seed,
            device=device,
            **_SETTINGS,  # type: ignore[arg-type]
        )
        figures = run(settings)
    with waiting_for(console, f"Measuring on {held_out:,} images held out"):
        raw, refined = measure_selfmask(out, images=held_out, device=device)
    console.print(
        f"On {held_out:,} images held out, at {MASK_SIZE} pixels: mean IoU {raw:.1%}, refined"
        f" {refined:.1%}; {out.stat().st_size / 1e6:.2f} MB",
        highlight=False,
        soft_wrap=True,
    )
    return figures


def measure_selfmask(
    weights: Path, *, images: int = 300, device: str = "cpu"
) -> tuple[float, float]:
    """Mean IoU, 0..1, with the union of all objects on held-out images: of masks and refined masks.

    Args:
        weights: file of a SelfMask's weights.
        images: number of images.
        device: cpu, cuda or cuda:N.

    Raises:
        WeightsError: the file is missing or of another model.
    """
    from tasks.saliency_training.scores import network_iou
    from tasks.stage.models import load_selfmask_model

    made = [corpus_image(_HELD_OUT, number) for number in range(images)]
    network = load_selfmask_model(selfmask_model(str(weights.absolute()), device, "float32"))
    return network_iou(
        network,
        [one.pixels for one in made],
        [
            np.logical_or.reduce(
                [np.zeros(one.pixels.shape[:2], dtype=np.bool_)]
                + [thing.mask for thing in one.objects]
            )
            for one in made
        ],
        image_size=MASK_SIZE,
        at_most=images,
    )
