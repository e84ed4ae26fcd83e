"""The exceptions that users see, as one short tree.

A `ZutisError` has one sentence about what happened, where, and what to do; the command line prints
it and exits with code 2. Errors of foreign libraries (fsspec, PIL, FAISS, YAML) are translated into
these where we call them, and nowhere else. An image that can't be used is not an error: it is an
`ImageRejected`, which the stages count and record under its reason.
"""

from __future__ import annotations

import unicodedata


class ZutisError(Exception):
    """A failure that the user can act on; its text is a complete sentence.

    Names in the text may hold line breaks, terminal commands, bytes that are not UTF-8, and half a
    pair of surrogates: they are escaped, so that terminals, logs and Prefect's API take the text.
    """

    def __str__(self) -> str:
        return "".join(map(_shown, super().__str__()))


def _shown(character: str) -> str:
    if unicodedata.category(character) not in ("Cc", "Cs"):
        return character
    return character.encode("unicode_escape").decode("ascii")


class ConfigError(ZutisError):
    """A setting has a value that can't work."""


class CorpusError(ZutisError):
    """A corpus is missing, empty or not of a kind that can be read."""


class VocabularyError(ZutisError):
    """A vocabulary can't be found or read, or its categories are not usable."""


class WeightsError(ZutisError):
    """Model weights are missing, damaged or of another model."""


class StorageError(ZutisError):
    """A file system refused: full, read-only, no permission, not reachable."""


class ArtifactError(ZutisError):
    """An artifact is missing, incomplete or changed since it was published."""


class ImageRejected(Exception):  # noqa: N818 - an outcome, not a failure of the run
    """One image can't be used.

    Attributes:
        reason: a stable snake_case word that is counted and recorded, such as `truncated`.
        detail: free text for the log; never part of an artifact's content.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
