"""Artifact keys: digests of stage, version, configuration, inputs and weights.

A `Recipe` is everything that decides how something is made: the stage and its version, its
configuration, the digests of the weights, and the artifacts that it reads. Nothing else goes in:
no clock, host name, store path or number of workers. An artifact's key is the recipe's digest and
the digest of the items that this part covers, so that all parts of one recipe share a prefix and
can be found with one listing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

_HALF = 20  # hex digits a half: 80 bits each, 160 for the whole key


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, no NaN, dataclasses as mappings."""
    return json.dumps(
        value,
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
        allow_nan=False,
        default=_as_plain,
    )


def _as_plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"a {type(value).__name__} can't be part of a key: {value!r}")


def digest(value: Any) -> str:
    """sha256, in hex, of a value's canonical JSON."""
    # Half a pair of surrogates, as JSON may have it, is a text of its own.
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()


def unless_default(config: Any, *names: str) -> dict[str, Any]:
    """Those fields of a configuration that are not at their defaults, by name.

    For settings that came after artifacts had been published: at its default such a setting does
    the earlier behaviour, and is left out of the key, so that these artifacts are still found.

    Args:
        config: a dataclass.
        names: of its fields; each has a plain default.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    values = {name: getattr(config, name) for name in names}
    return {name: value for name, value in values.items() if value != defaults[name]}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a stage makes its output.

    Attributes:
        stage: the stage's name, such as `embed_images`.
        version: raised whenever the stage's output changes for equal inputs.
        config: what of the stage's configuration decides the output.
        weights: sha256 (or `random:SEED`) of every set of weights used, by name.
        inputs: keys of the artifacts read by every part of the stage, by name.
    """

    stage: str
    version: int
    config: Mapping[str, Any]
    weights: Mapping[str, str] = dataclasses.field(default_factory=dict)
    inputs: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def prefix(self) -> str:
        """What the keys of all parts of this recipe begin with."""
        return digest(dataclasses.asdict(self))[:_HALF]

    def key(self, items: Sequence[Any] | Mapping[str, Any] = ()) -> str:
        """The key of the artifact that covers `items` (nothing, for a stage of one part)."""
        return self.key_of_digest(digest(items))

    def key_of_digest(self, items_digest: str) -> str:
        """The same, for items whose sha256 is known already."""
        return f"{self.prefix}-{items_digest[:_HALF]}"
