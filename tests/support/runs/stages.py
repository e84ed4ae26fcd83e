"""Single stages with the fakes, each on the output of the stages before it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from storage.artifacts.store import Artifact, ArtifactStore
from storage.corpora.corpus import open_sources
from tasks.indexing import ask_again, build_index, embed_images, scan
from tasks.masking import make_masks, plan_masks
from tasks.retrieval import embed_text, estimate_evidence, retrieve, search_index
from tasks.retrieval.category_queries import CategoryQuery
from tasks.retrieval.text_rows import TextRow
from tasks.stage.contract import PartOfPlan, SilentProgress, plan_parts
from tests.support.runs.builds import clip, selfmask


class Stages:
    """Runs stages in one store. Every call computes, without looking for published artifacts.

    Attributes:
        store: the store.
    """

    def __init__(self, store: ArtifactStore) -> None:
        self.store = store

    def scan(self, corpus: Path | str, part_images: int = 0) -> Artifact:
        [source] = open_sources([str(corpus)])
        config = scan.Config(source=scan.source_name(source), part_images=part_images)
        return scan.run(config, scan.Inputs(), self.store, SilentProgress())

    def embed(self, plan: Artifact, part: int = 0, **settings: Any) -> Artifact:
        config = embed_images.Config(clip=clip(), **settings)
        return embed_images.run(config, PartOfPlan(plan.ref, part), self.store, SilentProgress())

    def ask_again(self, plan: Artifact, first: Artifact, part: int = 0) -> Artifact | None:
        """Retry a part's failed images, from the latest artifact that the stage itself finds."""
        config = ask_again.Config(clip=clip())
        known = ask_again.latest(config, first, self.store)
        inputs = ask_again.Inputs(PartOfPlan(plan.ref, part), first.ref, known.ref)
        return ask_again.run(config, inputs, self.store, SilentProgress())

    def index(self, *plans: Artifact, **settings: Any) -> Artifact:
        """Embeds every part of the plans on the way."""
        parts = [
            build_index.EmbeddedPart(plan.ref, number, self.embed(plan, number).ref)
            for plan in plans
            for number in range(len(plan_parts(plan)))
        ]
        config = build_index.Config(**settings)
        return build_index.run(
            config, build_index.Inputs(tuple(parts)), self.store, SilentProgress()
        )

    def texts(self, prompts: Sequence[str]) -> list[TextRow]:
        """One row a prompt, all embedded together."""
        texts = [embed_text.Text((prompt,)) for prompt in prompts]
        unique = tuple({text.text_id: text for text in texts}.values())
        artifact = embed_text.run(
            embed_text.Config(clip=clip()), embed_text.Inputs(unique), self.store, SilentProgress()
        )
        return [TextRow(text.text_id, artifact.key) for text in texts]

    def search(self, index: Artifact, rows: Sequence[TextRow], k: int) -> Artifact:
        config = search_index.Config(k=k, texts_prefix="texts")
        unique = tuple(dict.fromkeys(rows))
        return search_index.run(
            config, search_index.Inputs(index.ref, unique), self.store, SilentProgress()
        )

    def queries(self, index: Artifact, names: Sequence[str], k: int) -> tuple[CategoryQuery, ...]:
        """A category a name, whose only prompt is the name, and its neighbours."""
        rows = self.texts(names)
        search = self.search(index, rows, k)
        return tuple(
            CategoryQuery(number, f"{name} ({number})", row, search.key)
            for number, (name, row) in enumerate(zip(names, rows, strict=True), start=1)
        )

    def evidence(self, index: Artifact, names: Sequence[str], k: int) -> Artifact:
        return estimate_evidence.run(
            estimate_evidence.Config(),
            estimate_evidence.Inputs(index.ref, self.queries(index, names, k)),
            self.store,
            SilentProgress(),
        )

    def retrieve(
        self,
        index: Artifact,
        names: Sequence[str],
        k: int,
        overlap: str = "best",
        evidence: Artifact | None = None,
        **settings: float,
    ) -> Artifact:
        """The images of the categories of `queries`."""
        return retrieve.run(
            retrieve.Config(overlap=overlap, **settings),
            retrieve.Inputs(
                index.ref, self.queries(index, names, k), evidence.ref if evidence else None
            ),
            self.store,
            SilentProgress(),
        )

    def plan_masks(
        self, retrieval: Artifact, config: make_masks.Config, part_images: int = 0
    ) -> Artifact | None:
        return plan_masks.run(
            plan_masks.Config(masks_prefix=config.recipe.prefix, part_images=part_images),
            plan_masks.Inputs(retrieval.ref),
            self.store,
            SilentProgress(),
        )

    def mask(self, plan: Artifact, config: make_masks.Config, part: int = 0) -> Artifact:
        return make_masks.run(config, PartOfPlan(plan.ref, part), self.store, SilentProgress())

    @staticmethod
    def mask_config(**settings: Any) -> make_masks.Config:
        return make_masks.Config(selfmask=selfmask(), **({"mask_size": 32} | settings))
