"""Checked categories and their text embeddings, as a segmenter needs them.

Dimensions:
    k  categories, without the background
    d  width of the joint embedding
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from storage.errors.exceptions import VocabularyError
from storage.vocabularies.vocabulary import BACKGROUND, MAX_CATEGORIES, Category, category_prompts

if TYPE_CHECKING:
    from torch import Tensor

    from zutis_model.clip.towers import Clip

log = logging.getLogger(__name__)

_NAMED = 5  # categories in a sentence

BARE_NAME = ("{}",)
"""Prompt template of the reference's segmentation network."""


def as_categories(categories: Sequence[str | Category]) -> tuple[Category, ...]:
    """Categories from names, checked as those of a vocabulary; a leading background is dropped.

    Names that differ only in case are refused as a typo, except where all are `Category`s: a
    vocabulary has refused them already, and a data set may number them apart.

    Raises:
        VocabularyError: no category, too many, an empty name, a name that is given twice, or a
            background that is not first.
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
    exact = all(isinstance(item, Category) for item in categories)
    seen: set[str] = set()
    for category in found:
        name = category.name.casefold()
        if not name:
            raise VocabularyError("A category's name is empty; delete it, or the extra comma.")
        if name == BACKGROUND:
            raise VocabularyError("The background is label 0 and can only stand first; delete it.")
        if (key := category.name if exact else name) in seen:
            raise VocabularyError(f"The category {category.name!r} is given twice; delete one.")
        seen.add(key)
    return tuple(found)


def with_exact_prompts(name: str, prompts: Sequence[str]) -> Category:
    """A category with exactly these prompts."""
    if list(prompts) == [name]:
        return Category(name=name)
    literal = tuple(prompt.replace("{", "{{").replace("}", "}}") for prompt in prompts)
    return Category(name=name, prompts=literal)


def with_learned_prompts(
    categories: Sequence[Category], learned: Sequence[Category]
) -> tuple[Category, ...]:
    """The categories; one without prompts and synonyms gets those that the model was trained with.

    Args:
        categories: as the user gives them.
        learned: those of the training.
    """
    known = {category.name: category for category in learned}
    return tuple(
        category if category.prompts or category.synonyms else known.get(category.name, category)
        for category in categories
    )


def embed_categories(
    clip: Clip, categories: Sequence[Category], templates: Sequence[str] = BARE_NAME
) -> Tensor:
    """Text embeddings for segmentation: float32 [k + 1, d], unit rows, the background first.

    Categories with equal embeddings and truncated prompts are reported in the log.

    Args:
        clip: whose text tower embeds the prompts.
        categories: k of them.
        templates: for categories without prompts of their own. The default, the bare name, is
            that of the reference's segmentation network (`networks/zutis.py`).
    """
    import torch

    with_background = (Category(name=BACKGROUND), *categories)
    prompts = [category_prompts(category, templates) for category in with_background]
    all_prompts = [prompt for several in prompts for prompt in several]
    rows = clip.embed_prompts(all_prompts)
    parts = torch.split(rows, [len(several) for several in prompts])
    embeddings = torch.stack([clip.ensemble(part) for part in parts])
    for sentence in [
        *truncation_warnings(clip, all_prompts),
        *_equal_sentences(categories, embeddings[1:]),
    ]:
        log.warning(sentence)
    return embeddings


def truncation_warnings(clip: Clip, prompts: Sequence[str]) -> list[str]:
    """Warnings about prompts that are longer than the text tower's context."""
    lost = {prompt: clip.cut_off(prompt) for prompt in prompts}
    return [
        f"The prompt {prompt!r} is longer than CLIP reads; {words!r} is cut off: shorten it."
        for prompt, words in lost.items()
        if words
    ]


def equal_prompts(categories: Sequence[Category], templates: Sequence[str]) -> tuple[str, ...]:
    """Names of the first categories that have the same prompts; empty if there are none."""
    asked: dict[tuple[str, ...], list[str]] = {}
    for category in categories:
        asked.setdefault(category_prompts(category, templates), []).append(category.name)
    return next((tuple(names) for names in asked.values() if len(names) > 1), ())


def equal_rows(rows: npt.NDArray[np.floating]) -> tuple[int, ...]:
    """Indices of the first rows of [k, d] that equal one another; empty if all differ."""
    _, first, which = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    which = which.reshape(-1)
    twice = np.sort(first[np.bincount(which) > 1])
    return tuple(np.flatnonzero(which == which[twice[0]]).tolist()) if len(twice) else ()


def refuse_equal_texts(
    categories: Sequence[tuple[str, str]], rows: npt.NDArray[np.floating]
) -> None:
    """Refuse categories whose prompts differ but whose embeddings are equal.

    Prompts may differ only beyond CLIP's context, or in characters that its tokenizer ignores.

    Args:
        categories: name and text_id of each; equal ids are one text on purpose.
        rows: [k, d], their texts' embeddings.

    Raises:
        VocabularyError: different texts have equal rows.
    """
    equal = [categories[i] for i in equal_rows(rows)]
    if len({text_id for _, text_id in equal}) > 1:
        names = " and ".join(repr(name) for name, _ in equal[:_NAMED])
        raise VocabularyError(
            f"CLIP reads the prompts of the categories {names} as one text, so that they would "
            "retrieve the same images: shorten them to the part that differs, or delete one."
        )


def _equal_sentences(categories: Sequence[Category], embeddings: Tensor) -> list[str]:
    equal = equal_rows(embeddings.cpu().numpy())
    if not equal:
        return []
    names = " and ".join(repr(categories[i].name) for i in equal)
    return [f"CLIP reads the categories {names} as one text and can't distinguish them."]
