"""What is said of a build's objects and of their labels' quality, in the card and the summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from storage.errors.sentences import counted_kinds

_FIGURES: Final = {
    "spearman": "rank correlation with the true IoU",
    "wrong_category_auc": "area under the ROC for wrong categories",
    "poor_mask_auc": "for an IoU below 0.5",
    "calibration_error": "calibration error",
}


def quality_sentences(judged: Mapping[str, Any]) -> list[str]:
    """Sentences without their full stops, for people.

    Args:
        judged: `judged` of the counts of `plan_shards`.
    """
    mean = judged["mean_quality"]
    about = "none could be estimated" if mean is None else f"mean quality {mean:.2f}"
    said = [f"{judged['labels']:,} labels, {about}; {judged['kept']:,} are kept"]
    if judged["left_out"]:
        said[0] += f", left out: {counted_kinds(judged['left_out'])}"
    if judged["without_quality"]:
        said.append(f"{judged['without_quality']:,} labels have no estimate, and are kept")
    if judged["method"] == "formula":
        said.append(
            "The quality comes from a fixed formula, since there were too few labels to learn from"
        )
        return said
    figures = [
        f"{words} {value:.2f}"
        for name, words in _FIGURES.items()
        if (value := judged["reliability"][name]) is not None
    ]
    said.append(f"On labels that were damaged on purpose and held out: {', '.join(figures)}")
    return said


def objects_sentence(objects: Mapping[str, int]) -> str:
    """A sentence without its full stop, for people.

    Args:
        objects: `objects` of the counts of `plan_shards`.
    """
    return (
        f"{objects['objects']:,} objects have a label, {objects['samples_with_several']:,} samples "
        f"have several; {objects['ignored']:,} objects without a clear name are to be ignored"
    )
