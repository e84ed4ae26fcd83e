"""`zutis vocabularies`: the vocabularies that `--vocabulary` knows by name."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from storage.errors.exceptions import VocabularyError
from storage.vocabularies.vocabulary import known_vocabularies, load_vocabulary


def list_vocabularies() -> None:
    """List the vocabularies that can be named: shipped ones, and those in ./vocabularies."""
    table = Table()
    for column in ("name", "categories", "file"):
        table.add_column(column, overflow="fold")
    for name, path in sorted(known_vocabularies().items()):
        try:
            size = str(len(load_vocabulary(name).categories))
        except VocabularyError as error:
            size = f"not usable: {error}"
        table.add_row(name, size, str(path))
    Console().print(table)
