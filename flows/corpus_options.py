"""Options that all commands have in common which take a corpus."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from storage.corpus import Source
from storage.errors import ConfigError
from storage.file_kinds import is_list

IncludeOption = Annotated[
    list[str] | None,
    typer.Option(help="Take only what fits a pattern such as 'train/*.jpg'; may be repeated."),
]
ExcludeOption = Annotated[
    list[str] | None,
    typer.Option(help="Leave out what fits a pattern such as 'thumbnails/*'; may be repeated."),
]
UriColumnOption = Annotated[
    str, typer.Option(help="Column of a table that says where the images are; else a usual name.")
]


def check_uri_column(uri_column: str, sources: Sequence[Source]) -> None:
    """Refuse a column that no source has a use for.

    Raises:
        ConfigError: there is no table with columns among the sources.
    """
    if uri_column and not any(_has_columns(source) for source in sources):
        raise ConfigError(
            f"uri_column is {uri_column!r}, but the corpus has no table with columns: leave it out."
        )


def _has_columns(source: Source) -> bool:
    uri = source.uris[0]
    return source.kind == "table" and not (is_list(uri) and uri.lower().endswith(".txt"))
