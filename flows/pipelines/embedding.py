"""Embedding the parts of a corpus: each once, and again only if the result would differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from flows.execution.executors import Executor
from flows.settings.build import BuildSettings
from storage.artifacts.store import Artifact, ArtifactRef
from storage.given_embeddings.source import GivenEmbeddings
from tasks.indexing import ask_again, embed_images, import_embeddings
from tasks.stage.contract import PartOfPlan, plan_parts
from tasks.stage.models import ModelConfig

# Images a forward pass. Larger batches are no faster on a CPU, but fill a GPU in bfloat16.
_BATCH = {"float32": 32, "bfloat16": 256}


def embedding_config(settings: BuildSettings, clip: ModelConfig) -> embed_images.Config:
    """The embedding's configuration of a build, with no bit depth and no given embeddings."""
    return embed_images.Config(
        clip=clip, unusual_images=settings.unusual_images, batch_size=_BATCH[clip.precision]
    )


def parts_of(plans: Sequence[Artifact]) -> tuple[list[PartOfPlan], list[int]]:
    """All parts of plans, and the number of entries of each."""
    parts = [
        PartOfPlan(plan.ref, number) for plan in plans for number in range(len(plan_parts(plan)))
    ]
    return parts, [part["items"] for plan in plans for part in plan_parts(plan)]


def with_given(
    config: embed_images.Config, given: GivenEmbeddings | None, executor: Executor
) -> tuple[embed_images.Config, tuple[ArtifactRef, ...]]:
    """The embedding's configuration with the embeddings that the user has, after reading them, and
    the artifact that holds them, if there is one.

    Raises:
        ZutisError: one sentence, for the user.
        NotCached: from an executor that runs nothing.
    """
    if given is None:
        return config, ()
    made = executor.one(
        import_embeddings.NAME,
        import_embeddings.Config(
            embeddings=given.place, fingerprint=given.fingerprint, clip=config.clip
        ),
        import_embeddings.Inputs(),
    )
    return replace(config, given=made.key, given_digest=made.notes["digest"]), (made.ref,)


def embed_parts(
    config: embed_images.Config,
    bit_depth: int,
    parts: Sequence[PartOfPlan],
    sizes: Sequence[int],
    executor: Executor,
) -> tuple[list[Artifact], list[ArtifactRef]]:
    """The embedded parts, and parts that these continue, which must be kept with them.

    Args:
        config: of the embedding, with no bit depth.
        bit_depth: of images of more than 8 bits; 0 for what each uses.
        parts: of all plans.
        sizes: number of entries of each part.
        executor: embeds missing parts, and retries images that could not be read.

    Raises:
        ZutisError: one sentence, for the user.
        NotCached: from an executor that runs nothing.
    """
    first = _embed(config, bit_depth, parts, sizes, executor)
    embedded = _ask_again(replace(config, bit_depth=bit_depth or None), parts, first, executor)
    standing = {part.ref for part in embedded}
    return embedded, [part.ref for part in first if part.ref not in standing]


@dataclass(frozen=True)
class Standing:
    """What a corpus's embedded parts hold: images, files that a retry would ask for, and rejects by
    their reasons."""

    images: int
    retryable: int
    rejects: Counter[str]


def standing_of(
    config: embed_images.Config,
    bit_depth: int,
    parts: Sequence[PartOfPlan],
    sizes: Sequence[int],
    executor: Executor,
) -> Standing:
    """What the parts hold, retries of earlier runs included; arguments as of `embed_parts`."""
    first = _embed(config, bit_depth, parts, sizes, executor)
    of_depth = replace(config, bit_depth=bit_depth or None)
    latest = [ask_again.latest(of_depth, part, executor.store) for part in first]
    rejects: Counter[str] = Counter()
    for part in latest:
        rejects.update(part.counts["rejects"])
    return Standing(
        images=sum(part.counts["images"] for part in latest),
        retryable=sum(
            ask_again.count_retryable(*each, executor.store)
            for each in zip(parts, latest, strict=True)
        ),
        rejects=rejects,
    )


def _embed(
    config: embed_images.Config,
    bit_depth: int,
    parts: Sequence[PartOfPlan],
    sizes: Sequence[int],
    executor: Executor,
) -> list[Artifact]:
    """Embed all parts; embed a part again if its deep images were scaled by another bit depth."""
    embedded = executor.many(embed_images.NAME, config, parts, sizes)
    wrong = [n for n, part in enumerate(embedded)
             if embed_images.reads_depth_wrongly(part, bit_depth)]  # fmt: skip
    if wrong:
        again = executor.many(
            embed_images.NAME,
            replace(config, bit_depth=bit_depth),
            [parts[number] for number in wrong],
            [sizes[number] for number in wrong],
        )
        for number, part in zip(wrong, again, strict=True):
            embedded[number] = part
    return embedded


def _ask_again(
    config: embed_images.Config,
    parts: Sequence[PartOfPlan],
    embedded: Sequence[Artifact],
    executor: Executor,
) -> list[Artifact]:
    """The parts, after a retry of images that failed temporarily in an earlier run; failures of
    this run are not retried."""
    latest = [ask_again.latest(config, part, executor.store) for part in embedded]
    lacking = {
        number: lack
        for number, part in enumerate(latest)
        if part.ref not in executor.made
        and (lack := ask_again.count_retryable(parts[number], part, executor.store))
    }
    if not lacking:
        return latest
    inputs = [
        ask_again.Inputs(parts[number], embedded[number].ref, latest[number].ref)
        for number in lacking
    ]
    made = executor.look_all(ask_again.NAME, config, inputs, list(lacking.values()))
    for number, part in zip(lacking, made, strict=True):
        latest[number] = part or latest[number]
    return latest
