"""What the page asks for, and the answers: plain data, images and files of the page."""

from __future__ import annotations

import json
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final, cast, get_args

from flows.deciding.drawing import Drawings
from flows.deciding.image_search import ImageSearch, Scores
from flows.deciding.reviewed import Order, Reviewed
from flows.deciding.reviewing import Reviewing

PAGE_LABELS: Final = 200
"""Labels that the page asks for at a time."""

MOST_LISTED: Final = 100_000
"""Labels in one list: browsers can't make a page of any height."""
_MOST_FOUND: Final = 1_000
_MOST_ASKED: Final = 500
_LONGEST_NAME: Final = 500
_SEARCHES: Final = 16

_FILES: Final = {
    "": ("review.html", "text/html; charset=utf-8"),
    "review.js": ("review.js", "text/javascript; charset=utf-8"),
    "review.css": ("review.css", "text/css; charset=utf-8"),
}


class BadRequest(ValueError):  # noqa: N818 - an answer, not a failure
    """Something that the page would not ask."""


@dataclass(frozen=True)
class Answer:
    """The content of an answer.

    Attributes:
        kind: its media type.
        keeps: whether the browser may keep it.
    """

    content: bytes
    kind: str = "application/json"
    keeps: bool = False


def as_json(value: Any) -> Answer:
    """ASCII, so that any name can be written."""
    return Answer(json.dumps(value, allow_nan=False).encode("ascii"))


Query = Mapping[str, str]


class Answers:
    """Answers what the page asks. Thread-safe.

    Args:
        reviewing: the review.
        drawings: of its labels.
        search: among its images.
    """

    def __init__(self, reviewing: Reviewing, drawings: Drawings, search: ImageSearch) -> None:
        self._reviewing, self._drawings, self._search = reviewing, drawings, search
        self._scores: OrderedDict[tuple[str, str], Scores] = OrderedDict()
        self._lock = threading.Lock()
        self._reading: Mapping[str, Callable[[Query], Answer]] = {
            "build": self._build,
            "list": self._list,
            "labels": self._labels,
            "thumbnail": self._thumbnail,
            "image": self._image,
        }
        self._writing: Mapping[str, Callable[[Mapping[str, Any]], Answer]] = {
            "decide": self._decide,
            "undo": self._undo,
        }

    def get(self, name: str, query: Query) -> Answer | None:
        """The answer to a request that changes nothing; None where there is no such thing.

        Raises:
            BadRequest: a value is missing, or can't be.
            ZutisError: one sentence, for the user.
        """
        if name in _FILES:
            file, kind = _FILES[name]
            folder = files("flows.deciding") / "templates"
            return Answer((folder / file).read_bytes(), kind)
        return self._reading[name](query) if name in self._reading else None

    def post(self, name: str, body: Mapping[str, Any]) -> Answer | None:
        """The answer to a request that writes; raises as `get`."""
        return self._writing[name](body) if name in self._writing else None

    @property
    def _reviewed(self) -> Reviewed:
        return self._reviewing.reviewed

    def _build(self, query: Query) -> Answer:
        """What the page begins with."""
        reviewed = self._reviewed
        return as_json({
            "name": reviewed.build.name,
            "key": reviewed.build.dataset.key,
            "file": str(self._reviewing.log.path),
            "who": self._reviewing.who,
            "sample": max(reviewed.sizes.values(), default=0),
            "untrained": bool(reviewed.build.dataset.notes.get("untrained")),
            "page": PAGE_LABELS,
            "vocabulary": [
                {"category_id": number, "name": name}
                for number, name in reviewed.labels.samples.categories.items()
            ],
            "counts": self._counts(),
        })  # fmt: skip

    def _counts(self) -> dict[str, Any]:
        self._reviewing.refresh()
        return self._reviewing.counts()

    def _list(self, query: Query) -> Answer:
        """Indices of labels, in the order in which they are shown."""
        category = _number(query, "category", 0)
        if text := query.get("text", ""):
            chosen = self._found("text", text, category)
        elif "like" in query:
            chosen = self._found("like", str(self._label(query, "like")), category)
        else:
            order = query.get("order", "best")
            if order not in get_args(Order):
                raise BadRequest(f"There is no order {order!r}.")
            chosen = self._reviewed.ordered(category, cast(Order, order)).tolist()
        counts = self._counts()
        if wanted := query.get("show", ""):
            chosen = [label for label in chosen if self._is_shown(label, wanted)]
        shown = chosen[:MOST_LISTED]
        return as_json({"labels": shown, "more": len(chosen) - len(shown), "counts": counts})

    def _is_shown(self, label: int, wanted: str) -> bool:
        if wanted == "undecided":
            return not self._reviewing.is_looked_at(label)
        return self._reviewing.state_of(label) == wanted

    def _found(self, kind: str, what: str, category: int) -> list[int]:
        with self._lock:
            scores = self._scores.get((kind, what))
        if scores is None:
            if kind == "text":
                scores = self._search.by_text(what)
            else:
                objects = self._reviewed.labels.samples.objects
                scores = self._search.like(int(objects.samples[int(what)]))
            with self._lock:
                self._scores[kind, what] = scores
                while len(self._scores) > _SEARCHES:
                    self._scores.popitem(last=False)
        found: list[int] = self._reviewed.by_score(scores, category, _MOST_FOUND).tolist()
        return found

    def _labels(self, query: Query) -> Answer:
        """What is known of some labels."""
        asked = query.get("ids", "").split(",")
        if len(asked) > _MOST_ASKED:
            raise BadRequest(f"Ask for at most {_MOST_ASKED} labels.")
        self._reviewing.refresh()
        return as_json([self._described(self._known(each)) for each in asked])

    def _described(self, label: int) -> dict[str, Any]:
        labels, outcome = self._reviewed.labels, self._reviewing.outcome_of(label)
        return {
            "id": label,
            "category_id": labels.category(label),
            "quality": _finite(float(labels.quality[label])),
            "rank": int(labels.rank[label]),
            "score": _finite(float(labels.score[label])),
            "state": self._reviewing.state_of(label),
            "looked_at": self._reviewing.is_looked_at(label),
            "to": outcome.category if outcome else "",
            "who": outcome.first.who if outcome and outcome.first else "",
        }

    def _thumbnail(self, query: Query) -> Answer:
        return Answer(self._drawings.thumbnail(self._label(query, "id")), "image/jpeg", keeps=True)

    def _image(self, query: Query) -> Answer:
        label = self._label(query, "id")
        outcome = self._reviewing.outcome_of(label)
        corrected = outcome.drawn if outcome else None
        drawn = self._drawings.large(label, mask=query.get("mask") != "0", corrected=corrected)
        return Answer(drawn, "image/jpeg")

    def _decide(self, body: Mapping[str, Any]) -> Answer:
        label, verdict, to = body.get("label"), body.get("verdict"), body.get("to", "")
        if not isinstance(label, int) or not isinstance(verdict, str) or not isinstance(to, str):
            raise BadRequest("A label and a verdict are needed.")
        if len(to) > _LONGEST_NAME or any(0xD800 <= ord(each) < 0xE000 for each in to):
            raise BadRequest("No category can have this name.")
        number = self._reviewing.decide(self._known(str(label)), verdict, to)
        return self._after(label, number)

    def _undo(self, body: Mapping[str, Any]) -> Answer:
        number = body.get("number")
        if not isinstance(number, int):
            raise BadRequest("The number of a decision is needed.")
        return self._after(self._reviewing.take_back(number), 0)

    def _after(self, label: int, number: int) -> Answer:
        counts = self._reviewing.counts()
        return as_json({"label": self._described(label), "number": number, "counts": counts})

    def _label(self, query: Query, name: str) -> int:
        return self._known(query.get(name, ""))

    def _known(self, text: str) -> int:
        label = int(text) if text.isascii() and text.isdigit() and len(text) < 12 else -1
        if not self._reviewed.has(label):
            raise BadRequest(f"There is no label {text[:20]!r} under review.")
        return label


def _number(query: Query, name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise BadRequest(f"`{name}` is no number.")
    return int(text)


def _finite(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None
