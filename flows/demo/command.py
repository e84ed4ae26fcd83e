"""`zutis demo`: the whole pipeline on a made world with small models, in minutes."""

from __future__ import annotations

import json
import sys
import time
import webbrowser
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.commands.options import command_of
from flows.demo.settings import DEFAULT, LEFT_OUT, QUICK, DemoOptions
from flows.settings.devices import require_device
from flows.terminal.loading import speaking_when_slow
from flows.terminal.waiting import waiting_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.demo.page import Figure, ScoreTable
    from flows.demo.scores import Retrieved, Truth
    from flows.demo.settings import DemoSize
    from flows.demo.world import DemoWorld
    from flows.pipelines.training import Evaluated
    from storage.artifacts.store import Artifact

DEFAULT_FOLDER = "zutis-demo"
FIGURES = "figures.json"
_WALL_TIME = "wall-time.json"


@command_of(DemoOptions)
def demo_command(options: DemoOptions) -> None:
    """Run the whole pipeline on a made world with small models, and show the results.

    Needs no download and no GPU. Running it again takes seconds.
    """
    device = require_device(options.device)
    size = replace(QUICK if options.quick else DEFAULT, device=device)
    folder = options.folder or Path(f"{DEFAULT_FOLDER}-quick" if options.quick else DEFAULT_FOLDER)
    console = Console()
    if options.vocabulary:
        build_for(options.vocabulary, size, folder, console)
        return
    page = run_demo(size, folder, console, ceiling=options.ceiling)
    if options.open:
        webbrowser.open(page.absolute().as_uri())


def build_for(vocabulary: str, size: DemoSize, folder: Path, console: Console) -> None:
    """Build the data set of another vocabulary from the same images.

    Raises:
        ZutisError: one sentence, for the user.
    """
    _make_world(folder, size, console)
    with speaking_when_slow(sys.stderr):
        from flows.commands.build import obtain_outcome
        from flows.summaries.build import print_summary, summarise
    started = time.monotonic()
    outcome = obtain_outcome(size.build_settings(folder, vocabulary), None, console)
    print_summary(summarise(outcome.build, outcome.reports), console)
    console.print(f"Built in {time.monotonic() - started:.1f} s.", highlight=False)


def run_demo(size: DemoSize, folder: Path, console: Console, *, ceiling: bool = False) -> Path:
    """Run everything, from the images to the page; returns the page's path.

    Args:
        size, folder, console: of the run.
        ceiling: train on true labels, too.

    Raises:
        ZutisError: one sentence, for the user.
    """
    started = time.monotonic()
    world = _make_world(folder, size, console)
    with speaking_when_slow(sys.stderr):
        from flows.commands.build import obtain_outcome
        from flows.commands.evaluate import obtain_scores
        from flows.commands.train import obtain_training
        from flows.demo.command_lines import demo_commands
        from flows.demo.figures import DemoScores, figures
        from flows.demo.report import write_report
        from flows.demo.scores import precision_by_chance, retrieved_images, scored_masks
        from flows.demo.systems import systems_table
        from flows.settings.next_steps import NextSteps
        from storage.shards.samples import ShardSamples

    store = str(folder / "store")
    _say(console, 2, "pseudo-labels for every kind; ZUTIS trained on them; scores on the scenes")
    outcome = obtain_outcome(
        size.build_settings(folder, str(world.vocabulary)),
        NextSteps(
            then="train+evaluate",
            training=size.training_settings(),
            evaluation=size.evaluation_settings(folder),
        ),
        console,
    )
    _say(console, 3, f"the same, but training is not shown {', '.join(LEFT_OUT)}")
    dataset = outcome.build.dataset.key
    training = obtain_training(size.training_settings(LEFT_OUT), dataset, store, console)
    partly = obtain_scores(size.evaluation_settings(folder), training.key, store, console)
    with waiting_for(console, "Reading the truth"):
        truth = world.truth()
        retrieved = retrieved_images(outcome.build.retrieval, truth)
    highest = None
    before_ceiling = time.monotonic()
    if ceiling:
        highest = _ceiling(size, folder, outcome.build.dataset, retrieved, truth, console)
    besides = time.monotonic() - before_ceiling
    _say(console, 4, "the results")
    with waiting_for(console, "Comparing the masks with the truth"):
        masks = scored_masks(ShardSamples.open(outcome.build.dataset), retrieved, truth)
        chance = precision_by_chance(truth, {one.kind for one in retrieved})
    assert outcome.training is not None
    assert outcome.evaluation is not None
    scores = DemoScores(
        retrieved=retrieved,
        masks=masks,
        evaluated=outcome.evaluation,
        partly=partly,
        chance=chance,
        commands=demo_commands(size, dataset, outcome.training.key, training.key),
        seconds=_wall_time(world, time.monotonic() - started - besides),
    )
    measured = figures(scores, size)
    systems = systems_table(scores.evaluated, highest, scores.commands.ceiling)
    _print_systems(systems, console, with_ceiling=ceiling)
    _print_figures(measured, console)
    content = json.dumps([asdict(one) for one in measured], indent=1, ensure_ascii=False)
    (folder / FIGURES).write_text(content + "\n", encoding="utf-8")
    with waiting_for(console, "Writing the page"):
        page = write_report(folder, size, scores, systems, measured, outcome, training)
    console.print(f"Everything, with images: {page}", highlight=False, soft_wrap=True)
    console.print(f"Finished in {time.monotonic() - started:.1f} s.", highlight=False)
    return page


def _ceiling(
    size: DemoSize,
    folder: Path,
    dataset: Artifact,
    retrieved: Sequence[Retrieved],
    truth: Truth,
    console: Console,
) -> Evaluated:
    """The scores of a network that is trained on the true labels of a data set's images."""
    from flows.commands.evaluate import obtain_scores
    from flows.commands.train import obtain_training
    from flows.demo.true_labels import CEILING_STORE, with_true_masks
    from storage.artifacts.store import ArtifactStore

    _say(console, 3, "the ceiling: the same images, with true labels")
    store = str(folder / CEILING_STORE)
    with waiting_for(console, "Writing the true labels"):
        true = with_true_masks(dataset, retrieved, truth, ArtifactStore(store))
    training = obtain_training(size.training_settings(), true.key, store, console)
    settings = size.evaluation_settings(folder).model_copy(update={"baseline": False})
    return obtain_scores(settings, training.key, store, console)


def _make_world(folder: Path, size: DemoSize, console: Console) -> DemoWorld:
    _say(console, 1, f"a world: {size.images:,} images and {size.scenes:,} scenes")
    started = time.monotonic()
    with waiting_for(console, "Drawing"):
        from flows.demo.world import make_world

        world = make_world(folder, size)
    made = f"drawn in {time.monotonic() - started:.1f} s" if world.made else "there already"
    console.print(f"{folder}: {made}", highlight=False, soft_wrap=True)
    return world


def _say(console: Console, number: int, what: str) -> None:
    console.print(f"\n[bold]{number}/4[/]  {escape(what)}", highlight=False, soft_wrap=True)


def _wall_time(world: DemoWorld, seconds: float) -> float | None:
    """Wall time of the run that made everything: this run, or an earlier one that recorded it; None
    if that was interrupted."""
    path = world.folder / _WALL_TIME
    if world.made:
        path.write_text(json.dumps({"seconds": seconds}) + "\n", encoding="utf-8")
        return seconds
    try:
        found: float = json.loads(path.read_text(encoding="utf-8"))["seconds"]
    except (OSError, ValueError, KeyError):
        return None
    return found


def _print_systems(systems: ScoreTable, console: Console, *, with_ceiling: bool) -> None:
    table = Table(title=systems.title, title_justify="left")
    for at, column in enumerate(systems.columns):
        table.add_column(column, justify="right" if at > 1 else "left")
    for row in systems.rows:
        table.add_row(*map(escape, row))
    console.print(table)
    if not with_ceiling:
        console.print("The ceiling: the same command with --ceiling.", highlight=False)


def _print_figures(measured: list[Figure], console: Console) -> None:
    table = Table(title="Results", title_justify="left")
    for column in ("", "measured", "baseline", "of what"):
        table.add_column(column, justify="right" if column == "measured" else "left")
    for one in measured:
        table.add_row(escape(one.name), one.value, one.baseline, escape(one.note))
    console.print(table)
