"""The column of a table, or key of a JSON object, that holds images' paths or addresses."""

from __future__ import annotations

from collections.abc import Sequence

from storage.errors.exceptions import CorpusError
from storage.files.filesystems import display

# Its names at img2dataset, clip-retrieval, LAION and Hugging Face, in any case. `uri` comes first;
# of the others a table may have one.
PLACE_COLUMNS = frozenset(
    {"uri", "url", "image_url", "image_path", "file_path", "filepath", "file_name", "filename"}
)


def place_column(uri: str, names: Sequence[str], wanted: str = "") -> str:
    """The column with the images' paths or addresses.

    Args:
        uri: of the table, for messages.
        names: of its columns.
        wanted: the one that the user names; else `uri`, or the only one of the usual names.

    Raises:
        CorpusError: there is none, there are several and no `uri` among them, or it is there
            twice.
    """
    name = _place_column(uri, names, wanted)
    require_one(uri, names, name)
    return name


def require_one(uri: str, names: Sequence[str], name: str) -> None:
    """Refuse a column name that occurs more than once.

    Raises:
        CorpusError: the table `uri`, whose columns are `names`, has several called `name`.
    """
    if (number := list(names).count(name)) > 1:
        raise CorpusError(
            f"The table {display(uri)} has {number} columns called {display(name)!r}; leave one of "
            "them, or call the others something else."
        )


def _place_column(uri: str, names: Sequence[str], wanted: str) -> str:
    have = f"its columns are {', '.join(map(display, names)) or 'none'}"
    if wanted:
        if wanted in names:
            return wanted
        raise CorpusError(
            f"The table {display(uri)} has no column {wanted!r} ({have}): give --uri-column one of "
            "them."
        )
    found = [name for name in names if name.casefold() in PLACE_COLUMNS]
    if "uri" in found:
        return "uri"
    if len(set(found)) == 1:
        return found[0]
    if found:
        raise CorpusError(
            f"The table {display(uri)} has several columns that may hold its images' paths "
            f"({', '.join(map(display, found))}); say which with --uri-column, or give the right "
            "one the name `uri`."
        )
    raise CorpusError(
        f"The table {display(uri)} has no column `uri`, nor one of the names that other tools "
        f"give it, {', '.join(sorted(PLACE_COLUMNS - {'uri'}))} ({have}); say with --uri-column "
        "which one has the images' paths or addresses."
    )
