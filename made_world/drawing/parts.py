"""Parts of a drawing: outlines that are filled with the colours of their roles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from made_world.drawing.outlines import Outline

# `shade` and `tint` are darker and lighter than `main`, the colour that the object is known by.
Role = Literal["main", "shade", "tint", "second", "third", "dark", "light", "wood", "glass"]
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True, eq=False)
class Part:
    """Outlines of one colour; later parts of a drawing cover earlier ones.

    Attributes:
        role: whose colour it is filled with.
        outlines: filled polygons.
        holes: polygons through which the background is visible.
        within: whether the part is visible only on the last part before it that is not `within`.
    """

    role: Role
    outlines: tuple[Outline, ...]
    holes: tuple[Outline, ...] = ()
    within: bool = False


def part(role: Role, *outlines: Outline, holes: tuple[Outline, ...] = ()) -> Part:
    """A part of the silhouette."""
    return Part(role, outlines, holes)


def detail(role: Role, *outlines: Outline) -> Part:
    """Decoration that never reaches beyond the part that it is on."""
    return Part(role, outlines, within=True)
