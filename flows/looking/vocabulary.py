"""`zutis vocabulary check`: what a build would make of a vocabulary, before there is one."""

from __future__ import annotations

from collections.abc import Sequence

from cyclopts import App
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.commands.options import command_of
from flows.looking.settings import VocabularyCheckOptions
from flows.settings.devices import require_device
from flows.terminal.waiting import waiting_for
from storage.errors.exceptions import VocabularyError
from storage.vocabularies.prompt_templates import TEMPLATES
from storage.vocabularies.vocabulary import Category, Vocabulary, category_prompts, load_vocabulary

vocabulary_app = App(name="vocabulary", help="Check a vocabulary before a build.")

_MOST_SHOWN = 50  # categories of the table


@vocabulary_app.command(name="check")
@command_of(VocabularyCheckOptions, positional="vocabulary")
def check_command(options: VocabularyCheckOptions) -> None:
    """Show the categories of a vocabulary, names that are used twice, prompts that CLIP cuts off,
    and pairs of categories that CLIP can hardly tell apart by their texts."""
    console = Console()
    vocabulary = load_vocabulary(options.vocabulary)
    console.print(_table(vocabulary))
    _print_lines(_facts(vocabulary), console)
    sentences = _names_and_prompts(vocabulary)
    if options.rivals:
        device = require_device(options.device)
        sentences += _texts(vocabulary, options.clip, device, options.rivals, console)
    for sentence in sentences:
        console.print(f"[bold yellow]![/] {escape(sentence)}", highlight=False, soft_wrap=True)
    if not sentences:
        console.print("Nothing to complain about.", highlight=False)


def _table(vocabulary: Vocabulary) -> Table:
    categories = vocabulary.categories
    shown = categories[:_MOST_SHOWN]
    told = f", the first {len(shown)}" if len(shown) < len(categories) else ""
    table = Table(
        title=escape(f"{vocabulary.name}: {len(categories):,} categories{told}"),
        title_justify="left",
    )
    columns = {
        "label": [str(number) for number in range(1, len(shown) + 1)],
        "category": [one.name for one in shown],
        "synonyms": [", ".join(one.synonyms) for one in shown],
        "not": [", ".join(one.not_these) for one in shown],
        "prompts": [str(len(category_prompts(one, TEMPLATES))) for one in shown],
        "examples": [str(len(one.examples) or "") for one in shown],
        "id": ["" if one.external_id is None else str(one.external_id) for one in shown],
    }
    used = {name: cells for name, cells in columns.items() if any(cells)}
    for name in used:
        right = name in ("label", "prompts", "examples", "id")
        table.add_column(name, overflow="fold", justify="right" if right else "left")
    for row in zip(*used.values(), strict=True):
        table.add_row(*map(escape, row))
    return table


def _facts(vocabulary: Vocabulary) -> list[str]:
    own = sum(bool(one.prompts) for one in vocabulary.categories)
    return [
        f"{len(vocabulary.categories) - own:,} categories have the {len(TEMPLATES)} prompts of the "
        f"papers, {own:,} their own."
    ]


def _names_and_prompts(vocabulary: Vocabulary) -> list[str]:
    from tasks.categories.category_texts import equal_prompts
    from tasks.categories.rivals import confusing_names

    sentences = confusing_names(vocabulary.categories)
    by_name = [one for one in vocabulary.categories if not one.examples]
    if equal := equal_prompts(by_name, TEMPLATES):
        names = " and ".join(map(repr, equal))
        sentences.append(f"The categories {names} have the same prompts, which no build accepts.")
    return sentences


def _texts(
    vocabulary: Vocabulary, clip: str, device: str, rivals: int, console: Console
) -> list[str]:
    """Print the most alike pairs; returns warnings about prompts that are cut off and texts that
    are equal."""
    with waiting_for(console, "Loading the program", patience=0):
        from flows.settings.build import clip_model
        from tasks.categories.category_texts import (
            refuse_equal_texts,
            truncation_warnings,
        )
        from tasks.categories.rivals import nearest_texts, text_rows
        from tasks.stage.models import load_clip_model

        model = clip_model(clip, device, "float32")
    categories = vocabulary.categories
    with waiting_for(console, f"Reading {len(categories):,} categories", patience=0):
        network = load_clip_model(model)
        rows = text_rows(network, categories, TEMPLATES)
        pairs = nearest_texts(rows)[:rivals]
        prompts = [prompt for one in categories for prompt in category_prompts(one, TEMPLATES)]
        sentences = truncation_warnings(network, prompts)
    if pairs:
        console.print(_rivals_table([(p.cosine, p.first, p.second) for p in pairs], categories))
    if model.weights.untrained:
        console.print("[bold yellow]Untrained weights: which texts are alike means nothing.[/]")
    try:
        refuse_equal_texts([(one.name, one.name) for one in categories], rows)
    except VocabularyError as error:
        sentences.append(str(error))
    return sentences


def _rivals_table(pairs: Sequence[tuple[float, int, int]], categories: Sequence[Category]) -> Table:
    table = Table(
        title="Rivals: the most alike texts", title_justify="left",
        caption="Images of one may be taken for the other; synonyms, prompts and `not` keep them "
        "apart.", caption_justify="left",
    )  # fmt: skip
    table.add_column("cosine", justify="right")
    table.add_column("category", overflow="fold")
    table.add_column("and", overflow="fold")
    for cosine, first, second in pairs:
        table.add_row(
            f"{cosine:.3f}", escape(categories[first].name), escape(categories[second].name)
        )
    return table


def _print_lines(lines: Sequence[str], console: Console) -> None:
    for line in lines:
        console.print(escape(line), highlight=False, soft_wrap=True)
