"""Types of settings: their bounds, and known values beside any other text.

Prefect makes a run form out of the JSON schema of a flow's parameters, which these types change;
the values themselves are plain strings, numbers and tuples.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from storage.errors.numbers import LARGEST, LARGEST_SEED
from storage.evaluation_sets.opening import BENCHMARKS
from storage.vocabularies.vocabulary import known_vocabularies
from storage.weights.registry import DEFAULT_CLIP, RECOMMENDED_CLIP, SELFMASK, SIGLIP


@dataclass(frozen=True)
class Suggest:
    """A text of which some values are known.

    The form shows a list to choose from, and a field for other text beside it. Values are asked for
    when a schema is made: a vocabulary added since the last start is then in the list.

    Attributes:
        known: the values of the list.
        others: what other text may be.
    """

    known: Callable[[], Iterable[str]]
    others: str

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        text = dict(handler(schema))
        listed = {**text, "title": "known", "enum": list(self.known())}
        return {"anyOf": [listed, {**text, "title": self.others}]}


_CLIP_MODELS = (DEFAULT_CLIP, *RECOMMENDED_CLIP)
_CLIP_FORMS = "ARCHITECTURE:WEIGHTS, hf-hub:OWNER/NAME or a folder"

VocabularyName = Annotated[str, Suggest(known_vocabularies, "a file")]
ClipName = Annotated[str, Suggest(lambda: _CLIP_MODELS, _CLIP_FORMS)]
IndexClipName = Annotated[str, Suggest(lambda: (*_CLIP_MODELS, *SIGLIP), _CLIP_FORMS)]
"""Of a model that indexes and retrieves only; it needs no patch tokens."""
SelfMaskName = Annotated[str, Suggest(lambda: SELFMASK, "a file or random:SEED")]
DataSetName = Annotated[str, Suggest(lambda: BENCHMARKS, "coco:… or folder:…")]
DeviceName = Annotated[str, Suggest(lambda: ("auto", "cpu", "cuda"), "cuda:N")]
Precision = Literal["auto", "float32", "bfloat16"]

AtLeastOne = Annotated[int, Field(ge=1, le=LARGEST)]
NotNegative = Annotated[int, Field(ge=0, le=LARGEST)]
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]
Share = Annotated[float, Field(ge=0, le=1)]
Margin = Annotated[float, Field(ge=-1, le=1)]


def _share_or_percent(given: Any) -> Any:
    """`80%` and `0.8` are the same."""
    form = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?%", given) if isinstance(given, str) else None
    return float(form[1]) / 100 if form else given


KeptShare = Annotated[float, Field(gt=0, le=1), BeforeValidator(_share_or_percent)]
"""A share above 0, which may be written in per cent."""
Positive = Annotated[float, Field(gt=0, le=LARGEST)]
AtLeastZero = Annotated[float, Field(ge=0, le=LARGEST)]
MaskSize = Annotated[int, Field(ge=32, le=4096)]
"""As `make_masks.Config` allows it."""


class _OneOrMany:
    """In a run form, one text or a list of them."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"anyOf": [{"type": "string", "title": "one"}, {**handler(schema), "title": "many"}]}


def _as_tuple(given: Any) -> Any:
    return (given,) if isinstance(given, str) else given or ()


Texts = Annotated[tuple[str, ...], BeforeValidator(_as_tuple), _OneOrMany()]
"""Several texts; one alone may be written without a list."""


AUTO_BOUNDS: Final = (1, 500)
"""The least and the most images a category that `auto` alone retrieves."""
_AUTO: Final = r"auto(?::([0-9]{1,10})-([0-9]{1,10}))?"


def auto_bounds(per_category: int | str) -> tuple[int, int] | None:
    """The least and the most images a category of `auto` or `auto:20-500`; None of all else."""
    form = re.fullmatch(_AUTO, per_category) if isinstance(per_category, str) else None
    if form is None:
        return None
    least, most = (int(form[1]), int(form[2])) if form[1] else AUTO_BOUNDS
    return (least, most) if least <= most and 1 <= most <= LARGEST else None


def _number_or_auto(given: Any) -> Any:
    typed = isinstance(given, str) and re.fullmatch("[0-9]{1,10}", given)
    value = int(given) if typed else given
    counts = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LARGEST
    if not counts and auto_bounds(value) is None:
        raise ValueError(
            f"choose 1 to {LARGEST:,} images, auto, or auto with bounds, such as auto:20-500"
        )
    return value


class _NumberOrAuto:
    """In a run form, a number or a text."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        number = {"type": "integer", "title": "number", "minimum": 1, "maximum": LARGEST}
        return {"anyOf": [number, {"type": "string", "title": "auto", "pattern": f"^{_AUTO}$"}]}


PerCategory = Annotated[int | str, BeforeValidator(_number_or_auto), _NumberOrAuto()]
"""A number of images a category, or `auto`, which may have bounds."""
