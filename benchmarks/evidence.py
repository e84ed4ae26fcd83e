"""How well the evidence of a category is estimated where truth is known: in the made world.

Cosines of the kinds' names with the images of a world, by the shipped CLIP, are what a search
finds. For every kind the number of images that show it is estimated

- in the whole world, and compared with the truth;
- in worlds from which all but some of the images that show the kind are left out: planted counts.

Scores alone can't tell a look-alike from the kind itself, which is what the kinds that are missed
have in common. Seeds below 100 are for tuning.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING, Any, Final

from benchmarks.measuring import (
    Figure,
    Report,
    argument_parser,
    load_average,
    publish,
    use_cores,
)

if TYPE_CHECKING:
    import numpy as np

    from made_world.corpus import World

HELD_OUT_SEED: Final = 311
PLANTED: Final = (3, 10, 20, 40, 80)
_CLOSE: Final = 0.2
_COUNTED: Final = 20
"""Images from which an estimate is to be close."""


@dataclass(frozen=True, eq=False)
class Scores:
    """Cosines float64 [n, k] of n images with k kinds, and `shows`, bool [n, k], the truth."""

    kinds: tuple[str, ...]
    cosines: np.ndarray
    shows: np.ndarray


def scores_of_world(seed: int, images: int, world: World) -> Scores:
    """The scores of a world that is made in a temporary folder."""
    import numpy as np
    import torch
    from PIL import Image

    from flows.demo.settings import CLIP
    from flows.settings.build import clip_model
    from made_world.corpus import read_ground_truth, write_corpus
    from made_world.things.kinds import KINDS
    from storage.vocabularies.prompt_templates import TEMPLATES
    from storage.vocabularies.vocabulary import Category, category_prompts
    from tasks.stage.models import load_clip_model

    clip = load_clip_model(clip_model(CLIP, "cpu", "float32"))
    texts = [clip.ensemble(clip.embed_prompts(category_prompts(Category(name=kind), TEMPLATES)))
             for kind in KINDS]  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_corpus(folder, seed, images, world=world)
        truth = read_ground_truth(folder)
        rows = []
        for file in truth:
            with Image.open(folder / "pictures" / file) as image:
                rows.append(clip.embed_images(clip.preprocess(image.convert("RGB"))[None]))
    cosines = torch.cat(rows).double() @ torch.stack(texts).double().T
    shown = [{kind for kind, _ in objects} for objects in truth.values()]
    shows = np.array([[kind in kinds for kind in KINDS] for kinds in shown])
    return Scores(tuple(KINDS), cosines.cpu().numpy(), shows)


def compared(scores: Scores, planted: Sequence[int], seed: int) -> dict[str, dict[str, list[int]]]:
    """For every kind, of the whole world (`all`) and of each planted count that it has: the number
    of images that show it, and the estimate."""
    import numpy as np

    from tasks.retrieval.count_estimate import estimate_count

    rng = np.random.default_rng(seed)
    found: dict[str, dict[str, list[int]]] = {}
    for number, kind in enumerate(scores.kinds):
        shows, cosines = scores.shows[:, number], scores.cosines[:, number]
        own = rng.permutation(cosines[shows])
        found[kind] = {}
        for name, count in [("all", len(own)), *((str(count), count) for count in planted)]:
            if count <= len(own):
                corpus = np.concatenate([cosines[~shows], own[:count]])
                estimate = estimate_count(corpus, corpus, len(corpus))
                found[kind][name] = [count, estimate or 0]
    return found


def figures_of(found: dict[str, dict[str, list[int]]], world: str) -> list[Figure]:
    """Shares of the kinds whose estimate is within 20 %, and medians of the estimates."""
    names = list(dict.fromkeys(name for pairs in found.values() for name in pairs))
    figures = []
    for name in names:
        pairs = [pairs[name] for pairs in found.values() if name in pairs]
        what = f"{world} world, " + ("all images" if name == "all" else f"{name} planted")
        figures.append(Figure(f"{what}: median of estimate / truth", _median_ratio(pairs), ""))
        if median(count for count, _ in pairs) >= _COUNTED:
            close = mean(abs(estimate / count - 1) <= _CLOSE for count, estimate in pairs)
            figures.append(Figure(f"{what}: kinds within 20 %", close, "0..1"))
    return figures


def _median_ratio(pairs: Sequence[Sequence[int]]) -> float:
    return median(estimate / count for count, estimate in pairs if count)


def measure(seed: int, images: int, worlds: Sequence[World], planted: Sequence[int]) -> Report:
    """Estimates in each of the worlds against the truth."""
    load = load_average()
    figures: list[Figure] = []
    samples: dict[str, Any] = {}
    for world in worlds:
        found = compared(scores_of_world(seed, images, world), planted, seed)
        figures += figures_of(found, world)
        samples[world] = found
    return Report(
        benchmark="evidence",
        sizes={"images": images, "seed": seed, "worlds": list(worlds)},
        figures=figures,
        samples=samples,
        load=load,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argument_parser(__doc__)
    parser.add_argument("--images", type=int, default=1500, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=HELD_OUT_SEED, help="(default: %(default)s)")
    return parser


def main() -> None:
    options = _parser().parse_args()
    use_cores(options.threads)
    publish(measure(options.seed, options.images, ("easy", "hard"), PLANTED), options.out)


if __name__ == "__main__":
    main()
