"""What the card and the summary say of labels that a trained network has looked at again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

SHARPENED: Final = "sharpened"
DISAGREED: Final = "disagreed"
LOW_QUALITY: Final = "low_quality"
NOT_LEARNED: Final = "not_learned"
ADDED: Final = "added"
OUTCOMES: Final = (SHARPENED, ADDED, DISAGREED, LOW_QUALITY, NOT_LEARNED)
"""What becomes of a label."""

_UNCHANGED: Final = {
    DISAGREED: "the network disagreed on",
    LOW_QUALITY: "are of low quality",
    NOT_LEARNED: "are of categories that it has not learned",
}


def second_look_sentence(looked: Mapping[str, Any]) -> str:
    """How many labels were changed, and why the others were not; without its full stop.

    Args:
        looked: `second_look` of a data set's counts.
    """
    outcomes, iou = looked["outcomes"], looked["iou_of_changed"]
    about = "" if iou is None else f" (IoU with the first masks {iou:.2f} on average)"
    kept = [f"{outcomes[name]:,} {why}" for name, why in _UNCHANGED.items() if outcomes.get(name)]
    left = f"; as they were stay those that {', '.join(kept)}" if kept else ""
    changed, added = outcomes.get(SHARPENED, 0), outcomes.get(ADDED, 0)
    more = f", {added:,} added" if added else ""
    return f"{changed:,} of {looked['labels'] - added:,} labels were sharpened{about}{more}{left}"
