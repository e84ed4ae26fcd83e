"""Checks that find, before the first image is read, what would stop a build hours later."""

from __future__ import annotations

from collections.abc import Sequence

from storage.artifacts.store import Artifact, ArtifactStore
from storage.errors.exceptions import VocabularyError
from storage.images.records import read_parquet
from storage.vocabularies.prompt_templates import TEMPLATES
from storage.vocabularies.vocabulary import Vocabulary
from storage.weights.registry import is_path
from tasks.categories.category_texts import equal_prompts, refuse_equal_texts
from tasks.indexing.build_index import EXACT
from tasks.retrieval.text_rows import TextRow, load_text_rows
from tasks.stage.layout import ENTRIES
from tasks.stage.models import ModelConfig, check_selfmask_weights, clip_dimension


def check_prompts(vocabulary: Vocabulary) -> None:
    """Whether CLIP is asked for every category with other words.

    Raises:
        VocabularyError: it isn't.
    """
    if equal := equal_prompts(vocabulary.categories, TEMPLATES):
        names = " and ".join(map(repr, equal))
        raise VocabularyError(
            f"The categories {names} of the vocabulary {vocabulary.name} have the same prompts, so "
            "that they would find the same images: put {} where the name goes, or delete one."
        )


def check_texts(categories: Sequence[tuple[str, TextRow]], store: ArtifactStore) -> None:
    """Whether CLIP tells all categories' texts apart.

    Args:
        categories: names, and where the rows of their texts are.

    Raises:
        VocabularyError: it reads two as one.
    """
    rows, _ = load_text_rows([row for _, row in categories], store)
    refuse_equal_texts([(name, row.text_id) for name, row in categories], rows)


def check_index(
    index: str, index_search: str, clip: ModelConfig, plans: Sequence[Artifact]
) -> None:
    """Whether FAISS can build and search an index such as the one asked for.

    Args:
        index: `exact`, or a FAISS factory string; index_search: its search parameters.
        clip: whose embeddings it is to hold.
        plans: of the corpus's sources, which say how many images there can be, tars apart.

    Raises:
        ConfigError: it can't.
    """
    if index == EXACT:
        return
    from storage.embeddings import faiss_index

    dimension = clip_dimension(clip)
    if dimension is not None:
        faiss_index.check(index, index_search, dimension, at_most(plans))


def check_selfmask(selfmask: str, model: ModelConfig) -> None:
    """Whether a user's own file holds a SelfMask; published ones are known by their digests.

    Raises:
        WeightsError: it doesn't.
    """
    if is_path(selfmask):
        check_selfmask_weights(model)


def all_are_taken(per_category: int, plans: Sequence[Artifact]) -> str:
    """A sentence where every category is offered every image, so that they can only differ in
    their thresholds; empty otherwise."""
    listed = _listed(plans)
    if listed >= per_category or any(map(_has_tars, plans)):  # plans are read where they matter
        return ""
    return (
        f"per_category is {per_category:,} and the corpus lists {listed:,} images: every"
        " category is offered all of them. Ask for fewer, or set --min-score,"
        " --min-probability or --min-margin, so that a category keeps what shows it."
    )


def at_most(plans: Sequence[Artifact]) -> int | None:
    """How many images the sources list; None where some of them are tars, which are listed as one
    entry each."""
    if any(map(_has_tars, plans)):
        return None
    return _listed(plans)


def _listed(plans: Sequence[Artifact]) -> int:
    return sum(int(plan.counts["entries"]) for plan in plans)


def _has_tars(plan: Artifact) -> bool:
    with plan.open(ENTRIES) as file:
        return "tar" in read_parquet(file, columns=["kind"])["kind"].unique().to_pylist()
