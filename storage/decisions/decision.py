"""A decision about one label, and the line of JSON that holds it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from storage.files.json_files import is_text, parse_json
from storage.images.masks import mask_id, runs_of

ACCEPT, REJECT, RENAME = "accept", "reject", "rename"
REDRAW, SEVERAL, CLEAR = "redraw", "several", "clear"
VERDICTS: Final = (ACCEPT, REJECT, RENAME, REDRAW, SEVERAL, CLEAR)
"""The label is right; is wrong; is of another category; has a corrected mask; is of several
objects; is undecided again."""

_IMAGE_ID = re.compile(r"[0-9a-f]{64}")
_MASK_ID = re.compile(r"[0-9a-f]{32}")
_MOST_PIXELS: Final = 1 << 31


@dataclass(frozen=True)
class DrawnMask:
    """A mask that was corrected by hand.

    Attributes:
        height, width: of the upright image, pixels.
        counts: its COCO run lengths, compressed.
    """

    height: int
    width: int
    counts: str

    def named(self, image_id: str) -> str:
        """The mask_id that it has for an image."""
        return mask_id(image_id, self.height, self.width, self.counts)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What somebody decided about the label of an image.

    Attributes:
        image_id: sha256 of the image's bytes, 64 hex digits.
        category: name of the label's category.
        mask: its mask_id, 32 hex digits; empty: whatever mask it has.
        verdict: of `VERDICTS`.
        to: of a renamed label the category that it is of.
        drawn: of a redrawn label its mask.
        sample: where the label came from a random sample, the number of labels that were drawn of
            each category; 0 elsewhere.
        who: of people, as they call themselves.
        when: with a time zone.
    """

    image_id: str
    category: str
    verdict: str
    when: datetime
    mask: str = ""
    to: str = ""
    drawn: DrawnMask | None = None
    sample: int = 0
    who: str = ""

    @property
    def order(self) -> tuple[datetime, str]:
        """By which the latest of several is found, in whatever order a file has them."""
        return self.when, line_of(self)

    @property
    def content(self) -> dict[str, Any]:
        """What is decided about which label, and nothing else of the line."""
        return {
            name: value
            for name, value in _as_plain(self).items()
            if name not in ("who", "when", "sample")
        }


def line_of(decision: Decision) -> str:
    """The decision as one line of JSON, without its end; fields without a value are left out."""
    return json.dumps(_as_plain(decision), ensure_ascii=False, allow_nan=False)


def decision_of(line: str) -> Decision:
    """The decision that a line holds. Fields that are not known are ignored.

    Raises:
        ValueError: it holds none; the text says why, in the middle of a sentence.
    """
    try:
        row = parse_json(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error.msg}, character {error.pos + 1}") from error
    except ValueError as error:
        raise ValueError(f"it is not JSON: {error}") from error
    if not isinstance(row, dict):
        raise ValueError("it is no JSON object")
    verdict = _text(row, "verdict")
    if verdict not in VERDICTS:
        raise ValueError(f"`verdict` is {verdict!r}: choose {', '.join(VERDICTS)}")
    image_id, mask, category = _text(row, "image_id"), _text(row, "mask"), _text(row, "category")
    if not _IMAGE_ID.fullmatch(image_id):
        raise ValueError("`image_id` is not the sha256 of an image, 64 hex digits")
    if mask and not _MASK_ID.fullmatch(mask):
        raise ValueError("`mask` is not the digest of a mask, 32 hex digits")
    if not category:
        raise ValueError("`category` is missing")
    renamed = _text(row, "to")
    if (verdict == RENAME) != bool(renamed):
        raise ValueError(f"`to` {'is missing' if verdict == RENAME else 'is only for rename'}")
    return Decision(
        image_id=image_id,
        category=category,
        verdict=verdict,
        when=_time(row),
        mask=mask,
        to=renamed,
        drawn=_drawn(row, needed=verdict == REDRAW),
        sample=_sample(row),
        who=_text(row, "who"),
    )


def now() -> datetime:
    """The time of a decision that is made now."""
    return datetime.now(UTC)


def _as_plain(decision: Decision) -> dict[str, Any]:
    drawn = decision.drawn
    row = {
        "image_id": decision.image_id,
        "category": decision.category,
        "mask": decision.mask,
        "verdict": decision.verdict,
        "to": decision.to,
        "drawn": drawn and {"size": [drawn.height, drawn.width], "counts": drawn.counts},
        "sample": decision.sample,
        "who": decision.who,
        "when": decision.when.astimezone(UTC).isoformat().replace("+00:00", "Z"),
    }
    return {name: value for name, value in row.items() if value}


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name, "")
    if not is_text(value):
        raise ValueError(f"`{name}` is no text")
    return value


def _time(row: Mapping[str, Any]) -> datetime:
    try:
        when = datetime.fromisoformat(_text(row, "when"))
        if when.tzinfo is None:
            raise ValueError
        return when.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError("`when` is no time with its zone, such as 2030-01-31T12:00:00Z") from error


def _sample(row: Mapping[str, Any]) -> int:
    value = row.get("sample", 0)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 31:
        raise ValueError("`sample` is no number of labels")
    return value


def _drawn(row: Mapping[str, Any], *, needed: bool) -> DrawnMask | None:
    match row.get("drawn"):
        case None if not needed:
            return None
        case {"size": [int(height), int(width)], "counts": str(counts)} if needed:
            pixels = height * width
            if not (height > 0 and width > 0 and pixels < _MOST_PIXELS):
                raise ValueError("`drawn` has a size that no image has")
            runs = runs_of(counts)
            if min(runs) < 0 or sum(runs) != pixels:
                raise ValueError(f"the run lengths of `drawn` don't make up {height} x {width} "
                                 "pixels")  # fmt: skip
            if not sum(runs[1::2]) > 0:
                raise ValueError("`drawn` is empty: reject the label instead")
            return DrawnMask(height, width, counts)
        case _:
            reason = "is no mask with `size` and `counts`" if needed else "is only for redraw"
            raise ValueError(f"`drawn` {reason}")
