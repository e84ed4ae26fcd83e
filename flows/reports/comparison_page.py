"""The page on two builds: what differs, with both masks side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from flows.builds.comparison import CategoryChange, Comparison, Label, LabelChange, SettingChange
from flows.reports.page import css, render
from flows.reports.thumbnails import Budget, Pictures
from tasks.packing.mask_sheet import MASK_COLOUR, TRUTH_COLOUR

_PAIRS: Final = 300
_SINGLE: Final = 200
_ROWS: Final = 1_000
_PAIR_BYTES: Final = 8_000_000
_SINGLE_BYTES: Final = 3_000_000


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A label in both builds, or in one.

    Attributes:
        before, after: its image with its mask, a JPEG; empty where it has none.
        was, is_now: its name and quality.
        name: of the image's file.
        iou: of the masks, in words; empty where there are not two.
    """

    before: bytes
    after: bytes
    was: str
    is_now: str
    name: str
    iou: str = ""


@dataclass(frozen=True, kw_only=True)
class ComparisonPage:
    """The content of the page; `more` has how many labels of each kind are not shown."""

    title: str
    facts: tuple[tuple[str, str], ...]
    settings: tuple[SettingChange, ...]
    categories: tuple[CategoryChange, ...]
    changed: tuple[Pair, ...]
    came: tuple[Pair, ...]
    gone: tuple[Pair, ...]
    more: dict[str, int]


_SECTIONS: Final = {
    "settings": "Settings that differ",
    "categories": "Categories",
    "changed": "Labels that changed",
    "came": "Labels that came",
    "gone": "Labels that went",
}


def render_comparison(compared: Comparison) -> bytes:
    """The page as UTF-8, of bounded size.

    Raises:
        ArtifactError: a sample is damaged.
        StorageError: a shard can't be read.
    """
    page = _page(compared)
    shown = {part: title for part, title in _SECTIONS.items() if getattr(page, part)}
    return render(
        "comparison.html", page=page, shown=shown, mark=" ".join(_keys(compared)),
        found_colour=css(MASK_COLOUR), true_colour=css(TRUTH_COLOUR),
    )  # fmt: skip


def _page(compared: Comparison) -> ComparisonPage:
    of_kind = {
        kind: [change for change in compared.labels if change.kind == kind]
        for kind in ("changed", "came", "gone")
    }
    first, second = compared.builds
    pictures = Pictures(first, compared.before), Pictures(second, compared.after)
    changed = tuple(_pairs(of_kind["changed"][:_PAIRS], pictures, Budget(_PAIR_BYTES)))
    came, gone = (
        tuple(_pairs(of_kind[kind][:_SINGLE], pictures, Budget(_SINGLE_BYTES)))
        for kind in ("came", "gone")
    )
    shown = {"changed": changed, "came": came, "gone": gone}
    return ComparisonPage(
        title=f"{first.name} and {second.name}" if first.name != second.name else first.name,
        facts=main_facts(compared),
        settings=compared.settings[:_ROWS],
        categories=compared.categories[:_ROWS],
        changed=changed,
        came=came,
        gone=gone,
        more={kind: len(of_kind[kind]) - len(pairs) for kind, pairs in shown.items()},
    )


def main_facts(compared: Comparison) -> tuple[tuple[str, str], ...]:
    """Label and value of what is to be known first."""
    before, after = _keys(compared)
    counts = compared.counts
    return (
        ("before", before),
        ("after", after),
        ("images", f"{len(compared.images_came):,} came, {len(compared.images_gone):,} went"),
        (
            "labels",
            f"{counts['unchanged']:,} are the same, {counts['changed']:,} changed, "
            f"{counts['came']:,} came, {counts['gone']:,} went",
        ),
        (
            "of those that changed",
            f"{counts['name']:,} have another name, {counts['mask']:,} another mask, "
            f"{counts['quality']:,} another quality",
        ),
    )


def _keys(compared: Comparison) -> tuple[str, str]:
    first, second = compared.builds
    return first.dataset.key, second.dataset.key


def _pairs(
    changes: Sequence[LabelChange], pictures: tuple[Pictures, Pictures], budget: Budget
) -> Iterator[Pair]:
    """The changes with their images, as many as the budget has room for."""
    for change in changes:
        sides = (change.before, change.after)
        drawn = [of.draw(side.at) for of, side in zip(pictures, sides, strict=True) if side]
        files = list(budget.admit(drawn))
        if len(files) < len(drawn):
            return
        before, after = (files.pop(0) if side else b"" for side in sides)
        names = (of.name_of(change.image_id) for of in pictures)
        yield Pair(
            before=before,
            after=after,
            was=said_of(change.before),
            is_now=said_of(change.after),
            name=next((name for name in names if name), ""),
            iou="" if change.iou is None else f"IoU {change.iou:.2f}",
        )


def said_of(label: Label | None) -> str:
    """A label's name and quality; a dash where there is none."""
    if label is None:
        return "-"
    return label.name if label.quality is None else f"{label.name}, quality {label.quality:.2f}"
