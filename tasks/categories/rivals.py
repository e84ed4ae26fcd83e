"""Categories of a vocabulary that compete with one another, told from their names alone.

Dimensions:
    k  categories
    d  width of CLIP's joint embedding
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from storage.vocabularies.category import Category, category_prompts

if TYPE_CHECKING:
    from zutis_model.clip.towers import Clip

_ROWS_AT_ONCE: Final = 1_024


@dataclass(frozen=True, order=True)
class Rivals:
    """Two categories whose texts CLIP finds alike: cosine -1..1, and their positions."""

    cosine: float
    first: int
    second: int


def text_rows(
    clip: Clip, categories: Sequence[Category], templates: Sequence[str]
) -> NDArray[np.float32]:
    """The categories' text embeddings, as a build has them: float32 [k, d], unit rows."""
    return np.stack(
        [
            clip.ensemble(clip.embed_prompts(list(category_prompts(one, templates)))).cpu().numpy()
            for one in categories
        ]
    )


def nearest_texts(rows: NDArray[np.floating]) -> list[Rivals]:
    """For each category the one whose text is nearest; the most alike first, each pair once.

    Args:
        rows: [k, d], texts' embeddings of unit length.
    """
    found: dict[tuple[int, int], float] = {}
    if len(rows) < 2:
        return []
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        block = rows[start : start + _ROWS_AT_ONCE]
        cosines = block @ rows.T
        own = np.arange(len(block))
        cosines[own, start + own] = -np.inf
        nearest = cosines.argmax(axis=1)
        for row, other in zip(own.tolist(), nearest.tolist(), strict=True):
            pair = (min(start + row, other), max(start + row, other))
            found[pair] = float(cosines[row, other])
    pairs = [Rivals(cosine, first, second) for (first, second), cosine in found.items()]
    return sorted(pairs, key=lambda one: (-one.cosine, one.first, one.second))


def confusing_names(categories: Sequence[Category]) -> list[str]:
    """Sentences on names that are several categories', or nearly so.

    Names are compared without regard to case, spaces, hyphens and a plural s.
    """
    owners: dict[str, list[tuple[str, str]]] = {}
    for category in categories:
        for name in dict.fromkeys((category.name, *category.synonyms)):
            owners.setdefault(_bare(name), []).append((category.name, name))
    sentences = []
    for several in owners.values():
        names = list(dict.fromkeys(owner for owner, _ in several))
        if len(names) > 1:
            words = " and ".join(dict.fromkeys(repr(name) for _, name in several))
            whose = " and ".join(map(repr, names))
            sentences.append(
                f"{words} {'stands' if ' and ' not in words else 'stand'} for the categories "
                f"{whose}: they will want the same images."
            )
        elif len(several) > 1:
            words = " and ".join(repr(name) for _, name in several)
            sentences.append(f"The category {names[0]!r} has one name twice: {words}.")
    return sentences


def _bare(name: str) -> str:
    plain = re.sub(r"[\s_\-]+", "", name.casefold())
    is_plural = len(plain) > 3 and plain.endswith("s") and not plain.endswith("ss")
    return plain[:-1] if is_plural else plain
