"""Categories as a segmenter takes them: names that are checked, and their text embeddings.

Dimensions:
    k  categories, without the background
    d  width of the joint embedding
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from storage.errors import VocabularyError
from storage.vocabulary import BACKGROUND, MAX_CATEGORIES, Category, category_prompts

if TYPE_CHECKING:
    from torch import Tensor

    from zutis_model.clip import Clip

BARE_NAME = ("{}",)
"""Template of what the segmentation network of the reference compares with."""


def as_categories(categories: Sequence[str | Category]) -> tuple[Category, ...]:
    """Categories of names, checked as those of a vocabulary; a leading background is dropped.

    Raises:
        VocabularyError: none, too many, an empty name, the same name twice, or a background that
            doesn't stand first.
    """
    found = [
        Category(name=" ".join(item.split())) if isinstance(item, str) else item
        for item in categories
    ]
    if found and found[0].name.casefold() == BACKGROUND:
        found = found[1:]
    if not 1 <= len(found) <= MAX_CATEGORIES:
        raise VocabularyError(
            f"{len(found)} categories are given: give 1 to {MAX_CATEGORIES:,} names."
        )
    seen: set[str] = set()
    for category in found:
        name = category.name.casefold()
        if not name:
            raise VocabularyError("A category's name is empty; delete it, or the comma too many.")
        if name == BACKGROUND:
            raise VocabularyError("The background is label 0 and can only stand first; delete it.")
        if name in seen:
            raise VocabularyError(f"The category {category.name!r} is given twice; delete one.")
        seen.add(name)
    return tuple(found)


def embed_categories(
    clip: Clip, categories: Sequence[Category], templates: Sequence[str] = BARE_NAME
) -> Tensor:
    """What pixels are compared with: float32 [k + 1, d], unit rows, the background first.

    Args:
        clip: whose text tower reads the sentences.
        categories: k of them.
        templates: for categories without prompts of their own. The bare name is what the
            segmentation network of the reference compares with (`networks/zutis.py`).
    """
    import torch

    with_background = (Category(name=BACKGROUND), *categories)
    prompts = [category_prompts(category, templates) for category in with_background]
    rows = clip.embed_prompts([prompt for several in prompts for prompt in several])
    parts = torch.split(rows, [len(several) for several in prompts])
    return torch.stack([clip.ensemble(part) for part in parts])
