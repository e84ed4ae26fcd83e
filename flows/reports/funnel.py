"""The funnel of a build: how many images reach each step, and why the others don't."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from flows.builds.found import FoundBuild
from flows.reports.parts import Step
from storage.images.records import read_parquet
from tasks.indexing import build_index, scan
from tasks.quality import choose_labels
from tasks.stage.layout import RETRIEVAL


def funnel(build: FoundBuild) -> tuple[Step, ...]:
    """The steps from the corpus to the shards, in their order; each but the last two counts images.

    Raises:
        ArtifactError: a file is missing or damaged.
    """
    return (
        *_corpus_steps(build),
        *_retrieval_steps(build),
        *_mask_steps(build),
        *_label_steps(build),
    )


def _corpus_steps(build: FoundBuild) -> list[Step]:
    steps = []
    if plans := build.artifacts.get(scan.NAME, []):
        listed = sum(plan.counts["entries"] for plan in plans)
        rejects = sum((Counter(plan.counts["rejects"]) for plan in plans), Counter[str]())
        steps += [
            Step(title="files of the corpus", count=listed + rejects.total()),
            Step(title="images and tars to read", count=listed, left_out=_sorted(rejects)),
        ]
    if index := build.one(build_index.NAME):
        counts = index.counts
        copies = {"copies": counts["duplicates"]} if counts["duplicates"] else {}
        steps.append(
            Step(
                title="different images that can be read",
                count=counts["images"],
                left_out=_sorted({**counts["rejects"], **copies}),
            )
        )
    return steps


def _retrieval_steps(build: FoundBuild) -> list[Step]:
    with build.retrieval.open(RETRIEVAL) as file:
        rows = read_parquet(file, columns=["image_id", "kept", "reason"])
    images = len(pc.unique(rows["image_id"]))
    kept = pc.unique(rows.filter(rows["kept"])["image_id"])
    index = build.one(build_index.NAME)
    beyond = index.counts["images"] - images if index else 0
    return [
        Step(
            title="retrieved for a category",
            count=images,
            left_out=(("not_retrieved", beyond),) if beyond > 0 else (),
        ),
        Step(
            title="kept for a category",
            count=len(kept),
            left_out=_sorted(_reasons_of_images(rows, kept)),
        ),
    ]


def _reasons_of_images(rows: pa.Table, kept: pa.Array) -> dict[str, int]:
    """Of the images that no category keeps, how many have which reason; of several the first."""
    lost = rows.filter(pc.invert(pc.is_in(rows["image_id"], value_set=kept)))
    of_image = lost.group_by("image_id").aggregate([("reason", "min")])
    counts = of_image["reason_min"].value_counts().to_pylist()
    return {each["values"]: each["counts"] for each in counts}


def _mask_steps(build: FoundBuild) -> list[Step]:
    counts = build.plan.counts
    rejects = Counter(counts["rejects"])
    kept = build.retrieval.counts["images"]
    return [Step(title="with a mask", count=kept - rejects.total(), left_out=_sorted(rejects))]


def _label_steps(build: FoundBuild) -> list[Step]:
    counts = build.plan.counts
    steps = []
    if chosen := build.one(choose_labels.NAME):
        choice = chosen.counts
        steps.append(
            Step(
                title=f"labels that are kept, of {choice['labels']:,}",
                count=choice["kept"],
                left_out=_sorted(choice["left_out"]),
            )
        )
    return [*steps, Step(title="samples in the shards", count=counts["samples"])]


def _sorted(counts: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    """The most frequent first."""
    return tuple(sorted(counts.items(), key=lambda each: (-each[1], each[0])))
