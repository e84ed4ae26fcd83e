"""The stage `embed_images`: each image is read once, hashed, decoded, measured and embedded.

A part's records and its embeddings are row-aligned; images that can't be used are recorded and
counted by reason. Duplicates (equal bytes) within a part are embedded once.
"""

from __future__ import annotations

from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.errors.reject_reasons import SIXTEEN_BIT
from tasks.indexing.embedding_parts import (
    STAGE,
    Config,
    Reading,
    entries_of_part,
    read_and_embed,
    write_part,
)
from tasks.indexing.given_rows import open_given_rows
from tasks.stage.contract import PartOfPlan, Progress, plan_parts, plan_selection, waiting
from tasks.stage.models import load_clip_model

__all__ = ["NAME", "Config", "locate", "reads_depth_wrongly", "run"]

NAME = STAGE


def locate(config: Config, inputs: PartOfPlan, store: ArtifactStore) -> ArtifactRef:
    part = plan_parts(store.get(inputs.plan))[inputs.part]
    return ArtifactRef(NAME, config.recipe.key_of_digest(part["digest"]))


def reads_depth_wrongly(part: Artifact, bit_depth: int) -> bool:
    """Whether an embedded part has images of more than 8 bits that were scaled by another depth.

    Few corpora have such images. Only their parts are embedded again, under a key of their own:
    where a depth is given, or where they were made by a version that scaled all 16-bit images by
    the range of the file.

    Args:
        part: made with any `bit_depth`.
        bit_depth: the requested one; 0 for the depth that each image uses.
    """
    if SIXTEEN_BIT not in part.counts["conversions"]:
        return False
    if "bit_depths" not in part.counts:
        return True
    return bit_depth > 0 and any(bits != str(bit_depth) for bits in part.counts["bit_depths"])


def run(config: Config, inputs: PartOfPlan, store: ArtifactStore, progress: Progress) -> Artifact:
    """Embed one part of a scan's plan.

    Publishes `records.parquet` and `rejects.parquet` (`RECORD_SCHEMA`) and `embeddings.npy`
    (float16 [n, d], L2-normalised, row-aligned with the records). The counts give, where there are
    any, the bits by which images of more than 8 were scaled (`bit_depths`), the number of images
    with too few colours for a photograph (`few_colours`), and the decoder's warnings (`warnings`);
    with embeddings that the user has, how many were taken, compared, and found changed.
    """
    with waiting(progress, "loading CLIP"):
        clip = load_clip_model(config.clip)
    plan = store.get(inputs.plan)
    reading = Reading(
        lambda: clip, config, plan_selection(plan), given=open_given_rows(config.given, store)
    )
    part = read_and_embed(entries_of_part(plan, inputs.part), reading, progress)
    with store.attempt(locate(config, inputs, store)) as attempt:
        write_part(attempt, part.records, part.rejects, part.embeddings())
        return store.publish(
            attempt, config.recipe, inputs={"plan": inputs.plan.key}, counts=part.counts(),
            notes={"part": inputs.part, "clip": config.clip.weights.label,
                   "preprocessing": clip.preprocessing},
        )  # fmt: skip
