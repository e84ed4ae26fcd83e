"""Notes on a corpus: files that are not images, and warnings on images that are used."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console

from storage.errors.reject_reasons import IMAGE_WARNINGS
from storage.errors.sentences import counted_kinds


def tell_other_files(console: Console, ignored: Mapping[str, int]) -> None:
    """Print how many files are not images or are left out by name; nothing if there are none."""
    if ignored:
        console.print(
            f"Other files: {counted_kinds(ignored)}.", highlight=False, markup=False, soft_wrap=True
        )


def tell_warnings(console: Console, warnings: Mapping[str, int]) -> None:
    """Print how many images are used in spite of a warning."""
    for word, number in warnings.items():
        console.print(
            f"{number:,} used, {word}: {IMAGE_WARNINGS[word]}.",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
