"""The shipped category lists, on which published scores are based.

A data set's categories are its own: a vocabulary of the same name in the working directory, which
hides a shipped one elsewhere, does not change what labels mean.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from storage.vocabularies.vocabulary import Category, load_vocabulary

_SHIPPED: Final = Path(__file__).resolve().parents[2] / "vocabularies"


def shipped_categories(vocabulary: str) -> tuple[Category, ...]:
    """The categories of `vocabularies/VOCABULARY.yaml`, in label order."""
    return load_vocabulary(str(_SHIPPED / f"{vocabulary}.yaml")).categories


def shipped_names(vocabulary: str) -> tuple[str, ...]:
    """Their names."""
    return tuple(category.name for category in shipped_categories(vocabulary))
