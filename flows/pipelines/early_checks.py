"""Checks before the first image is read, for errors that would stop a build hours later."""

from __future__ import annotations

from collections.abc import Sequence

from storage.artifacts.store import Artifact, ArtifactStore
from storage.corpora.listing import CONTAINERS
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
    """Check that the prompts of all categories differ.

    Raises:
        VocabularyError: two categories have the same prompts.
    """
    by_name = [category for category in vocabulary.categories if not category.examples]
    if equal := equal_prompts(by_name, TEMPLATES):
        names = " and ".join(map(repr, equal))
        raise VocabularyError(
            f"The categories {names} of the vocabulary {vocabulary.name} have the same prompts, so "
            "that they would find the same images: put {} where the name goes, or delete one."
        )


def check_texts(categories: Sequence[tuple[str, TextRow]], store: ArtifactStore) -> None:
    """Check that CLIP's embeddings of all categories differ.

    Args:
        categories: names, and the places of their texts' rows.

    Raises:
        VocabularyError: two categories have the same embedding.
    """
    rows, _ = load_text_rows([row for _, row in categories], store)
    refuse_equal_texts([(name, row.text_id) for name, row in categories], rows)


def check_index(
    index: str, index_search: str, clip: ModelConfig, plans: Sequence[Artifact]
) -> None:
    """Check that FAISS can build and search an index of this kind.

    Args:
        index: `exact`, or a FAISS factory string; index_search: its search parameters.
        clip: the model of the embeddings.
        plans: of the corpus's sources, which give the number of images, except in tars.

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
    """Check that a user's own file holds a SelfMask; published files are known by their digests.

    Raises:
        WeightsError: it holds none.
    """
    if is_path(selfmask):
        check_selfmask_weights(model)


def all_are_taken(per_category: int, plans: Sequence[Artifact]) -> str:
    """A warning if every category retrieves every image, so that categories differ only by
    thresholds; empty otherwise."""
    listed = _listed(plans)
    if listed >= per_category or any(map(_has_containers, plans)):  # reads the plans
        return ""
    return (
        f"per_category is {per_category:,} and the corpus lists {listed:,} images: every"
        " category is offered all of them. Ask for fewer, or set --min-score,"
        " --min-probability or --min-margin, so that a category keeps what shows it."
    )


def at_most(plans: Sequence[Artifact]) -> int | None:
    """Number of images that the sources list; None with tars and other containers, each of
    which is listed as one."""
    if any(map(_has_containers, plans)):
        return None
    return _listed(plans)


def _listed(plans: Sequence[Artifact]) -> int:
    return sum(int(plan.counts["entries"]) for plan in plans)


def _has_containers(plan: Artifact) -> bool:
    with plan.open(ENTRIES) as file:
        kinds = read_parquet(file, columns=["kind"])["kind"].unique().to_pylist()
    return not CONTAINERS.isdisjoint(kinds)
