"""Command lines that reproduce the demonstration's figures.

They run in the demonstration's folder, which holds its store `store` and its scenes `scenes`.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from flows.demo.settings import LEFT_OUT, VOCABULARY_FILE, DemoSize
from flows.settings.build import BuildSettings
from flows.settings.evaluation import EvaluationSettings
from flows.settings.training import TrainingSettings

HERE: Final = Path()
"""The demonstration's folder as seen from inside it."""

_STORE: Final = "store"
_ANEW: Final = "again"
_KEY: Final = 12  # digits of a key that are enough to identify it
_TRAIN_OPTIONS: Final = frozenset(
    {"clip", "iterations", "batch_size", "learning_rate", "crop", "seed", "workers", "device",
     "precision"}
)  # fmt: skip
_EVALUATE_OPTIONS: Final = frozenset(
    {"on", "data", "vocabulary", "collapse_to", "limit", "device", "precision"}
)


@dataclass(frozen=True, kw_only=True)
class DemoCommands:
    """The command lines that reproduce the figures.

    Attributes:
        again: all figures and the page, from the store.
        ceiling: the same with the ceiling.
        anew: everything from scratch, in a new folder.
        build: the pseudo-labels.
        train, train_partly: the network trained on all kinds, and the one trained without some.
        evaluate, evaluate_partly: their scores beside MaskCLIP's.
    """

    again: str
    ceiling: str
    anew: str
    build: str
    train: str
    train_partly: str
    evaluate: str
    evaluate_partly: str


def demo_commands(size: DemoSize, dataset: str, training: str, partly: str) -> DemoCommands:
    """The commands of a run.

    Args:
        size: of the run.
        dataset: the key of its data set.
        training, partly: the keys of the training on all kinds and of that without some.
    """
    evaluation = size.evaluation_settings(HERE)
    return DemoCommands(
        again=demo_line(size),
        ceiling=demo_line(size, ceiling=True),
        anew=demo_line(size, folder=_ANEW),
        build=build_line(size.build_settings(HERE, VOCABULARY_FILE)),
        train=train_line(size.training_settings(), dataset),
        train_partly=train_line(size.training_settings(LEFT_OUT), dataset),
        evaluate=evaluate_line(evaluation, training),
        evaluate_partly=evaluate_line(evaluation, partly),
    )


def demo_line(
    size: DemoSize, *, folder: str = ".", vocabulary: str = "", ceiling: bool = False
) -> str:
    """`zutis demo` of that size."""
    words = ["demo", *(["--quick"] if size.name == "quick" else []), "--folder", folder]
    words += ["--ceiling"] if ceiling else []
    words += ["--vocabulary", vocabulary] if vocabulary else []
    words += ["--device", size.device] if size.device != "auto" else []
    return _line(words)


def build_line(settings: BuildSettings) -> str:
    """`zutis build` with these settings, all of which are options."""
    given = settings.model_dump(exclude_defaults=True)
    corpora = [word for one in given.pop("corpus") for word in ("--corpus", one)]
    return _line(["build", *corpora, *_options(given)])


def train_line(settings: TrainingSettings, dataset: str) -> str:
    """`zutis train` with these settings, on a data set of the demonstration's store."""
    given = settings.model_dump(exclude_defaults=True)
    return _line(["train", "--dataset", dataset[:_KEY], *_words(given, _TRAIN_OPTIONS)])


def evaluate_line(settings: EvaluationSettings, training: str) -> str:
    """`zutis evaluate` with these settings, of a training in the demonstration's store."""
    given = settings.model_dump(exclude_defaults=True)
    return _line(["evaluate", "--checkpoint", training[:_KEY], *_words(given, _EVALUATE_OPTIONS)])


def predict_line(categories: str, min_score: float) -> str:
    """`zutis predict` on the scenes, with the latest training of the demonstration's store."""
    return _line(
        ["predict", "scenes/images", "--checkpoint", "latest", "--categories", categories,
         "--min-score", str(min_score), "--out", "predictions", "--store", _STORE]
    )  # fmt: skip


def _words(given: Mapping[str, Any], options: frozenset[str]) -> Iterator[str]:
    yield from _options({name: value for name, value in given.items() if name in options})
    for name, value in given.items():
        if name not in options:
            yield from ("--set", f"{name}={json.dumps(value)}")
    yield from ("--store", _STORE)


def _options(given: Mapping[str, Any]) -> Iterator[str]:
    for name, value in given.items():
        yield from (f"--{name.replace('_', '-')}", str(value))


def _line(words: list[str]) -> str:
    return shlex.join(["zutis", *words])
