"""The wiring of a build's retrieval: texts, examples, searches, evidence, ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flows.execution.executors import Executor
from storage.artifacts.store import Artifact, ArtifactRef
from storage.errors.exceptions import CorpusError
from storage.errors.sentences import listed
from storage.images.records import read_parquet
from storage.vocabularies.prompt_templates import TEMPLATES
from storage.vocabularies.vocabulary import Category, Vocabulary, category_prompts
from tasks.retrieval import embed_examples, embed_text, estimate_evidence, retrieve, search_index
from tasks.retrieval.category_queries import CategoryQuery
from tasks.retrieval.embed_examples import Examples
from tasks.retrieval.text_rows import TextRow
from tasks.stage.coverage import covered_items
from tasks.stage.layout import EVIDENCE, NEIGHBOURS, TEXTS

# Names whose prompts go through the text tower as one part: seconds on a GPU, a minute on a CPU.
_NAMES_A_PART = 64
_NAMED = 10  # categories in a sentence


@dataclass(frozen=True)
class CategoryRows:
    """A category's embeddings; attributes as of `CategoryQuery`."""

    name: str
    text: TextRow
    examples: TextRow | None
    not_these: tuple[TextRow, ...]

    @property
    def searched(self) -> TextRow:
        """What is looked for."""
        return self.examples or self.text


@dataclass(frozen=True)
class Retrieved:
    """What a retrieval found.

    Attributes:
        evidence, retrieval: artifacts of the stages of these names.
        inputs: what the retrieval is made from, index and evidence apart.
    """

    evidence: Artifact
    retrieval: Artifact
    inputs: list[ArtifactRef]


def texts_of(
    config: embed_text.Config, vocabulary: Vocabulary, executor: Executor
) -> list[CategoryRows]:
    """Where the categories' embeddings are, in the vocabulary's order, after making what is not
    there.

    Raises:
        VocabularyError: an example image can't be used.
    """
    own = [embed_text.Text(category_prompts(c, TEMPLATES)) for c in vocabulary.categories]
    others = [_other_meanings(category) for category in vocabulary.categories]
    rows = _text_rows(config, [*own, *(text for texts in others for text in texts)], executor)
    texts = [rows[text.text_id] for text in own]
    examples = _example_rows(config, vocabulary.categories, texts, executor)
    return [
        CategoryRows(category.name, text, example, tuple(rows[other.text_id] for other in several))
        for category, text, example, several in zip(
            vocabulary.categories, texts, examples, others, strict=True
        )
    ]


def retrieve_images(
    config: retrieve.Config,
    search: search_index.Config,
    categories: Sequence[CategoryRows],
    index: Artifact,
    executor: Executor,
    *,
    by_evidence: bool,
    thin: str,
) -> Retrieved:
    """Search for the categories, estimate how many images show each, and rank.

    Args:
        config: of the ranking; search: of the search.
        categories: of the vocabulary; index: to be searched.
        by_evidence: whether the evidence decides which images are retrieved.
        thin: keep, drop, or stop where a category has too little evidence.

    Raises:
        CorpusError: a category has too little evidence for `stop`, or each has for `drop`.
    """
    rows = list(dict.fromkeys(each.searched for each in categories))
    searches = _searches(search, index, rows, executor)
    queries = tuple(
        CategoryQuery(
            number, each.name, each.text, searches[each.searched.text_id], each.examples,
            each.not_these,
        )
        for number, each in enumerate(categories, start=1)
    )  # fmt: skip
    evidence = executor.one(
        estimate_evidence.NAME,
        estimate_evidence.Config(),
        estimate_evidence.Inputs(index.ref, queries),
    )
    _check_thin(thin, evidence, len(categories))
    retrieval = executor.one(
        retrieve.NAME,
        config,
        retrieve.Inputs(index.ref, queries, evidence.ref if by_evidence else None),
    )
    used = [row.artifact for each in categories
            for row in (each.text, *each.not_these, each.searched)]  # fmt: skip
    used += [ArtifactRef(search_index.NAME, key) for key in searches.values()]
    return Retrieved(evidence, retrieval, list(dict.fromkeys(used)))


def load_evidence(evidence: Artifact) -> list[dict[str, Any]]:
    """The rows of `evidence.parquet`."""
    with evidence.open(EVIDENCE) as file:
        rows: list[dict[str, Any]] = read_parquet(file).to_pylist()
    return rows


def _check_thin(thin: str, evidence: Artifact, categories: int) -> None:
    found = [row for row in load_evidence(evidence) if row["thin"]]
    if thin == "stop" and found:
        named = listed([f"{row['category']} ({row['images']:,})" for row in found], _NAMED)
        raise CorpusError(
            f"Fewer than 10 images are estimated to show each of {len(found):,} categories,"
            f" {named}: add images that do, other names or examples, or leave these out of the"
            " vocabulary; --thin keep builds all the same."
        )
    if thin == "drop" and len(found) == categories:
        raise CorpusError(
            "No category is estimated to be shown by 10 images or more, so that --thin drop"
            " would leave none: give images that show the categories, or take --thin keep."
        )


def _other_meanings(category: Category) -> list[embed_text.Text]:
    """The texts of what the category's name does not mean, asked for as the name is: with the
    category's own prompts, as far as they take a name."""
    prompts = tuple(prompt for prompt in category.prompts if "{}" in prompt)
    return [
        embed_text.Text(category_prompts(Category(name=name, prompts=prompts), TEMPLATES))
        for name in category.not_these
    ]


def _text_rows(
    config: embed_text.Config, texts: Sequence[embed_text.Text], executor: Executor
) -> dict[str, TextRow]:
    """The place of each text's row, by text_id; embeds missing texts."""
    wanted = {text.text_id: text for text in texts}

    def known() -> dict[str, str]:
        return covered_items(
            executor.store, embed_text.NAME, config.recipe.prefix, file=TEXTS, column="text_id"
        )

    there = known()
    new = [text for text_id, text in wanted.items() if text_id not in there]
    if new:
        parts = [
            embed_text.Inputs(tuple(new[start : start + _NAMES_A_PART]))
            for start in range(0, len(new), _NAMES_A_PART)
        ]
        executor.many(embed_text.NAME, config, parts, [len(part.texts) for part in parts])
        there = known()
    return {text_id: TextRow(text_id, there[text_id]) for text_id in wanted}


def _example_rows(
    config: embed_text.Config,
    categories: Sequence[Category],
    texts: Sequence[TextRow],
    executor: Executor,
) -> list[TextRow | None]:
    """Where the row of each category's examples is; None of those without examples."""
    if not any(category.examples for category in categories):
        return [None] * len(categories)
    from tasks.retrieval.example_images import find_example  # imports decoders

    found = [
        Examples(
            category.name,
            text,
            tuple(find_example(category.name, uri) for uri in category.examples),
            category.name_weight,
        )
        for category, text in zip(categories, texts, strict=True)
    ]
    given = tuple({each.text_id: each for each in found if each.images}.values())
    made = executor.one(
        embed_examples.NAME,
        embed_examples.Config(clip=config.clip),
        embed_examples.Inputs(given),
    )
    return [
        TextRow(each.text_id, made.key, embed_examples.NAME) if each.images else None
        for each in found
    ]


def _searches(
    config: search_index.Config, index: Artifact, rows: Sequence[TextRow], executor: Executor
) -> dict[str, str]:
    """The artifact with each text's neighbours, by text_id; searches for missing ones."""
    prefix = search_index.recipe(config, index.ref).prefix

    def known() -> dict[str, str]:
        return covered_items(
            executor.store, search_index.NAME, prefix, file=NEIGHBOURS, column="text_id"
        )

    there = known()
    new = tuple(row for row in rows if row.text_id not in there)
    if new:  # all at once: an exact search takes as long as reading the embeddings
        executor.many(search_index.NAME, config, [search_index.Inputs(index.ref, new)], [len(new)])
        there = known()
    return {row.text_id: there[row.text_id] for row in rows}
