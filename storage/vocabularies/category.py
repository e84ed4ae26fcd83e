"""A category: its names, prompts and example images, and the sentences that CLIP is asked."""

from __future__ import annotations

import itertools
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from storage.errors.exceptions import VocabularyError

DEFAULT_NAME_WEIGHT: Final = 0.5


@dataclass(frozen=True, kw_only=True)
class Category:
    """One category; `category_prompts` gives its prompts for CLIP."""

    name: str
    prompts: tuple[str, ...] = ()
    """Sentences that replace the templates. `{}` takes the name and each synonym; a sentence
    without `{}` is used as it stands. `{{` and `}}` are literal braces."""
    synonyms: tuple[str, ...] = ()
    """Other names of the category, whose embeddings are averaged with the first name's."""
    external_id: str | int | None = None
    """The category's id elsewhere, such as COCO's `category_id`. Never the label id."""
    not_these: tuple[str, ...] = ()
    """Names of what the category's name could mean, too, and does not: an image that is nearer to
    one of them than to the category is not kept for it."""
    examples: tuple[str, ...] = ()
    """Paths or URIs of images that show the category, and are looked for in place of the name or
    beside it."""
    name_weight: float = DEFAULT_NAME_WEIGHT
    """Share of the name in what is looked for where there are examples, 0 (none) to 1."""


def category_prompts(category: Category, templates: Sequence[str]) -> tuple[str, ...]:
    """The sentences whose CLIP embeddings are averaged for one category.

    Args:
        category: its prompts, where it has any, are used in place of `templates`.
        templates: sentences with one `{}` or more, such as `prompt_templates.TEMPLATES`.

    Returns:
        Sentences ordered by name (the category's own first, then its synonyms), and within a name
        as the templates are. A prompt without `{}` is the same for every name and comes once,
        with the first.

    Raises:
        VocabularyError: a sentence has another field than `{}`, a lone brace, or, for a template,
            no `{}` at all.
    """
    where = f"Category {category.name!r}"
    if not category.prompts:
        for template in templates:
            if not count_fields(template, where, "template"):
                raise VocabularyError(
                    f"{where}: the template {template!r} has no {{}} for the name; add one."
                )
    sentences = category.prompts or tuple(templates)
    counts = [count_fields(sentence, where, "prompt") for sentence in sentences]
    return tuple(
        sentence.format(*itertools.repeat(name, count))
        for position, name in enumerate((category.name, *category.synonyms))
        for sentence, count in zip(sentences, counts, strict=True)
        if count or position == 0
    )


def count_fields(sentence: str, where: str, kind: str) -> int:
    """How often a prompt has `{}`; raises VocabularyError for fields other than that."""
    remedy = "write {} where the name goes, and {{ or }} for a literal brace"
    try:
        fields = [part[1:] for part in string.Formatter().parse(sentence) if part[1] is not None]
    except ValueError as error:
        raise VocabularyError(
            f"{where}: the {kind} {sentence!r} can't be filled ({error}); {remedy}."
        ) from error
    for field, spec, conversion in fields:
        if field or spec or conversion:
            raise VocabularyError(
                f"{where}: the {kind} {sentence!r} has the field {{{field}}}, which nothing fills;"
                f" {remedy}."
            )
    return len(fields)
