"""The summary of a build, as tables for the terminal and the UI."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.execution.progress import StageProgress
from flows.pipelines.build import Build
from flows.pipelines.decisions import Decided
from flows.pipelines.retrieval import load_evidence
from storage.artifacts.store import Artifact
from storage.errors.reject_reasons import IMAGE_WARNINGS, REJECT_REASONS, TRANSIENT
from storage.errors.sentences import counted_kinds, listed
from tasks.categories.evidence_notes import competing_pairs, senses_note, thin_note
from tasks.packing.choice_sentences import (
    duplicates_sentence,
    keep_out_sentences,
    labels_sentence,
)
from tasks.packing.decision_sentences import (
    decided_sentence,
    precision_lines,
    unused_sentences,
)
from tasks.packing.quality_sentences import objects_sentence, quality_sentences
from tasks.stage.layout import CARD, SHARD_INDEX

_MASK_REASONS = {
    "blank_mask": "the network found no object",
    "full_mask": "the mask covers the whole image",
    "too_elongated": "the image is more than 8 times as long as it is wide",
    "no_given_mask": "the masks that were given have none of this image",
    "mask_of_other_size": "the mask that was given has another size than the image",
    "unreadable_mask": "the mask that was given can't be read",
    "ambiguous_name": "several of the masks that were given go by the image's name",
}
_MOST_ROWS = 100
_MOST_NAMES = 10
_MOST_NOTES = 3


@dataclass(frozen=True)
class Summary:
    """A build in numbers.

    Attributes:
        categories: category_id, name, retrieved, kept, dropped, masked; a row a category.
        rejects: images left out, by reason: while listing, reading and masking.
        facts: label and value, for everything else.
        not_found: categories whose best scores do not stand out from those of the corpus.
        warning: warning on untrained weights; empty for trained ones.
    """

    categories: list[dict[str, Any]]
    rejects: dict[str, int]
    facts: dict[str, str]
    warning: str
    not_found: tuple[str, ...] = ()


def summarise(build: Build, reports: Sequence[StageProgress]) -> Summary:
    counts = build.shard_plan.counts
    rejects = _rejects(build)
    index = build.index.counts
    kept = sum(row["kept"] for row in counts["categories"])
    samples = sum(entry["size"] for name, entry in build.dataset.files.items() if ".tar" in name)
    facts = {
        "images": f"{index['images']:,} in the index, {index['duplicates']:,} copies of them, "
        f"{sum(rejects.values()):,} left out",
        "retrieved": f"{build.retrieval.counts['rows']:,} rows, {kept:,} kept; "
        f"{build.retrieval.counts['images']:,} distinct images",
        "samples": f"{counts['samples']:,} in {build.dataset.counts['shards']} shards, "
        f"{samples / 1e6:,.1f} MB",
        "cost": _cost(reports),
        "shards": f"{build.dataset.location}/",
        "index of shards": SHARD_INDEX,
        "data set card": CARD,
    }
    if "elongated" in index:
        facts["elongated"] = _elongated(index, build.embedded)
    facts |= _odd_images(build.embedded)
    if passing := {reason: n for reason, n in index["rejects"].items() if reason in TRANSIENT}:
        facts["asked again"] = (
            f"{sum(passing.values()):,} images could not be had because of trouble that may pass "
            f"({counted_kinds(passing)}): the next run of this command asks for them again"
        )
    if "recall" in index:
        facts["recall"] = f"{index['recall']:.4f} at {index['recall_k']} against exact search"
    if given := _given(build.embedded):
        facts["embeddings"] = given
    if ignored := _ignored(build):
        facts["other files"] = counted_kinds(ignored)
    if alike := build.dataset.notes["decode_alike"]:
        facts["16-bit maps"] = (
            f"readers of 8 bits take {alike:,} names for one value; {CARD} shows how to read them"
        )
    if "objects" in counts:
        facts["objects"] = objects_sentence(counts["objects"])
    if "judged" in counts:
        facts["quality"] = "; ".join(quality_sentences(counts["judged"]))
    if "chosen" in counts:
        facts |= _chosen_facts(counts["chosen"], told="judged" in counts)
    if build.decided is not None:
        facts |= _decided_facts(build.decided, counts)
    absent = [row["name"] for row in counts["categories"] if not row["masked"]]
    if absent:
        facts["no label"] = f"{listed(absent, _MOST_NAMES)}: no pixel of any label map shows them"
    not_found = tuple(build.retrieval.notes["not_found"])
    if not_found:
        facts["not found (?)"] = (
            f"{listed(not_found, _MOST_NAMES)}: no image's score rises above those of the corpus "
            "as a whole"
        )
    facts |= _evidence_facts(load_evidence(build.evidence))
    return Summary(counts["categories"], rejects, facts, untrained_warning(build), not_found)


def _chosen_facts(chosen: Mapping[str, Any], *, told: bool) -> dict[str, str]:
    """Labels that were left out as leaks and near-duplicates; `told`: how many is said already."""
    facts = {
        "labels": "" if told else labels_sentence(chosen),
        "kept out": "; ".join(keep_out_sentences(chosen)),
        "near-duplicates": duplicates_sentence(chosen),
    }
    return {label: value for label, value in facts.items() if value}


def _decided_facts(decided: Decided, counts: Mapping[str, Any]) -> dict[str, str]:
    """What became of labels by decisions, and which decisions changed nothing."""
    here = counts.get("decided")
    said = [f"{decided.decisions:,} in the file"]
    if decided.overruled:
        said.append(f"{decided.overruled:,} overruled by later ones")
    if here:
        said += [decided_sentence(here), *unused_sentences(here)]
    if decided.elsewhere:
        said.append(f"{decided.elsewhere:,} about images that the build has not retrieved")
    facts = {"decisions": "; ".join(said)}
    if here and (lines := precision_lines(here, counts["categories"])):
        facts["precision"] = listed(lines, _MOST_NAMES, "; ")
    return facts


def _evidence_facts(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Categories that few images show, that show two things, and that want the same images."""
    facts = {}
    if thin := [thin_note(row) for row in rows if row["thin"]]:
        few, more = thin[:_MOST_NOTES], len(thin) - _MOST_NOTES
        facts["few images"] = "; ".join(few) + (
            f"; and {more:,} more categories" if more > 0 else ""
        )
    if senses := [note for row in rows if (note := senses_note(row))]:
        facts["two senses (?)"] = (
            f"{listed(senses, _MOST_NAMES)}: `not` or `examples` in the vocabulary chooses one"
        )
    if pairs := competing_pairs(rows):
        facts["same images"] = f"{listed(pairs, _MOST_NAMES)} are wanted by both"
    return facts


def _elongated(index: Mapping[str, Any], embedded: Sequence[Artifact]) -> str:
    count = f"{index['elongated']:,} images are beyond 1.5 : 1; CLIP sees"
    if "crops" in index:
        return f"{count} {index['crops']:,} squares along them, and each image's best counts"
    if _are_squashed(embedded):
        return f"{count} them squashed into a square: --crops many looks at squares along them, too"
    return (
        f"{count} their central square alone, and can miss what is at their ends: --crops many "
        "looks there too"
    )


def _are_squashed(embedded: Sequence[Artifact]) -> bool:
    """Whether the model that embedded the images distorts them to a square, as SigLIP does."""
    return any(
        part.notes.get("preprocessing", {}).get("resize_mode") == "squash" for part in embedded
    )


def _odd_images(embedded: Sequence[Artifact]) -> dict[str, str]:
    """Notes on the images that matter to users of the labels."""
    facts = {}
    depths: Counter[int] = Counter()
    few = 0
    for part in embedded:
        few += part.counts.get("few_colours", 0)
        for bits, images in part.counts.get("bit_depths", {}).items():
            depths[int(bits)] += images
    if depths:
        by_depth = [f"{images:,} by {bits} bits" for bits, images in sorted(depths.items())]
        several = "; --bit-depth takes one for all" if len(depths) > 1 else ""
        facts["deep images"] = (
            f"{sum(depths.values()):,} images have more than 8 bits a channel and are scaled by "
            f"the range that they use: {listed(by_depth, _MOST_NAMES)}{several}"
        )
    odd = sum((Counter(part.counts.get("warnings", {})) for part in embedded), Counter[str]())
    if odd:
        facts["odd files"] = listed(
            [f"{n:,} {word} ({IMAGE_WARNINGS[word]})" for word, n in sorted(odd.items())],
            _MOST_NAMES,
        )
    if few:
        facts["few colours"] = (
            f"{few:,} images have fewer than 20 colours: label maps or drawings rather than "
            "photographs?"
        )
    return facts


def untrained_warning(build: Build) -> str:
    labels = [
        f"{name} {model.weights.label.removesuffix(' (untrained)')}"
        for name, model in zip(("CLIP", "SelfMask"), build.models, strict=True)
        if model.weights.untrained
    ]
    if not labels:
        return ""
    return (
        f"Made with untrained weights, {' and '.join(labels)}: a trial of the machinery. The "
        "labels mean nothing."
    )


def print_summary(summary: Summary, console: Console) -> None:
    console.print(_category_table(summary.categories, summary.not_found))
    if len(summary.categories) > _MOST_ROWS:
        console.print(f"… and {len(summary.categories) - _MOST_ROWS} more, in the data set card.")
    if summary.rejects:
        console.print(_reject_table(summary.rejects))
    for label, value in summary.facts.items():
        console.print(f"[bold]{label:>15}[/]  {escape(value)}", highlight=False, soft_wrap=True)
    if summary.warning:
        console.print(f"[bold yellow]{escape(summary.warning)}[/]", highlight=False)


def markdown(summary: Summary) -> str:
    """The summary without the table of categories, which is a separate table in the UI."""
    lines = [f"**{summary.warning}**\n"] if summary.warning else []
    lines += ["| build | |", "|---|---|"]
    lines += [f"| {label} | {value} |" for label, value in summary.facts.items()]
    if summary.rejects:
        lines += ["", "| left out | images | why |", "|---|---|---|"]
        lines += [f"| {reason} | {n:,} | {explain(reason)} |"
                  for reason, n in summary.rejects.items()]  # fmt: skip
    return "\n".join(lines)


def explain(reason: str) -> str:
    return REJECT_REASONS.get(reason) or _MASK_REASONS.get(reason, "")


def _rejects(build: Build) -> dict[str, int]:
    rejects: Counter[str] = Counter()
    for plan in build.plans:
        rejects.update(plan.counts["rejects"])
    rejects.update(build.index.counts["rejects"])
    rejects.update(build.shard_plan.counts["rejects"])
    return dict(sorted(rejects.items()))


def _given(embedded: Sequence[Artifact]) -> str:
    """How many embeddings the user had; empty where none were given."""
    parts = [part.counts for part in embedded if "given" in part.counts]
    if not parts:
        return ""
    given, compared, changed = (
        sum(counts[name] for counts in parts) for name in ("given", "compared", "changed")
    )
    text = f"{given:,} given, {compared:,} of the images embedded again to compare"
    return text + (f": {changed:,} have changed since" if changed else "")


def _ignored(build: Build) -> Counter[str]:
    """Files of the corpus, and members of its tars, that are not images, by kind."""
    ignored = Counter[str]()
    for plan in build.plans:
        ignored.update(plan.counts["ignored"])
    for part in build.embedded:
        ignored.update(part.counts.get("ignored", {}))
    return ignored


def _cost(reports: Sequence[StageProgress]) -> str:
    """Seconds of the stages that ran, and the number of cached parts."""
    seconds: dict[str, float] = {}
    for report in reports:
        seconds[report.stage] = seconds.get(report.stage, 0.0) + report.seconds
    dearest = sorted(seconds, key=lambda stage: -seconds[stage])[:3]
    named = ", ".join(f"{stage} {seconds[stage]:.1f} s" for stage in dearest if seconds[stage] > 1)
    parts, cached = sum(r.parts for r in reports), sum(r.cached_parts for r in reports)
    return (
        f"{sum(seconds.values()):.1f} s{f' ({named})' if named else ''}; {cached} of {parts} parts "
        "were cached"
    )


def _category_table(categories: Sequence[dict[str, Any]], not_found: Sequence[str]) -> Table:
    table = Table(title="Categories", title_justify="left")
    table.add_column("id", justify="right")
    table.add_column("name")
    for column in ("retrieved", "kept", "dropped", "masked"):
        table.add_column(column, justify="right")
    for row in categories[:_MOST_ROWS]:
        mark = " (?)" if row["name"] in not_found else ""
        table.add_row(str(row["category_id"]), escape(row["name"]) + mark, *(
            f"{row[column]:,}" for column in ("retrieved", "kept", "dropped", "masked")
        ))  # fmt: skip
    return table


def _reject_table(rejects: dict[str, int]) -> Table:
    table = Table(title="Left out", title_justify="left")
    table.add_column("reason")
    table.add_column("images", justify="right")
    table.add_column("why")
    for reason, count in rejects.items():
        table.add_row(reason, f"{count:,}", explain(reason))
    return table
