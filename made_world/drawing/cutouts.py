"""Rasterisation: the share of each pixel that the parts of a posed drawing cover."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw

from made_world.drawing.outlines import Outline
from made_world.drawing.parts import Part, Role

FINE = 4  # pixels of the drawing per pixel of the image, along each side
_MARGIN = 2  # empty pixels around a cutout


@dataclass(frozen=True)
class Pose:
    """How a drawing is laid out in an image.

    Attributes:
        angle: degrees by which it is turned, clockwise as seen.
        flipped: whether left and right are exchanged before turning.
        stretch: its width over its height, relative to how it was drawn.
        side: pixels of the longer side of its bounding box after turning.
        line: pixels of the width of the outline that is drawn along its parts; 0 for none.
    """

    angle: float
    flipped: bool
    stretch: float
    side: float
    line: float


@dataclass(frozen=True, eq=False)
class Cutout:
    """A drawing in pixels, without colours; all arrays are float32 [h, w].

    Attributes:
        coverage: share of the pixel that the object covers, 0 to 1.
        layers: role and coverage of each part, the front one last.
        lines: coverage of the outline, if it has one.
        across: x in the object's own frame, -1 to 1 over its width, for patterns on it.
        down: y likewise.
    """

    coverage: NDArray[np.float32]
    layers: tuple[tuple[Role, NDArray[np.float32]], ...]
    lines: NDArray[np.float32] | None
    across: NDArray[np.float32]
    down: NDArray[np.float32]

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Pixels that the object covers by half or more."""
        return self.coverage >= 0.5


def cut_out(parts: Sequence[Part], pose: Pose) -> Cutout:
    """Draw the parts at `FINE` times the size and average."""
    outer = np.concatenate([each for one in parts if not one.within for each in one.outlines])
    frame = _Frame(pose, outer)
    width, height = frame.size
    fine = (width * FINE, height * FINE)
    silhouette, lines, below = (Image.new("L", fine) for _ in range(3))
    layers = []
    for one in parts:
        canvas = Image.new("L", fine)
        draw = ImageDraw.Draw(canvas)
        for each in one.outlines:
            draw.polygon(frame.fine_points(each), fill=255)
        for each in one.holes:
            draw.polygon(frame.fine_points(each), fill=0)
        if one.within:
            canvas = ImageChops.darker(canvas, below)
        else:
            below = canvas
            silhouette = ImageChops.lighter(silhouette, canvas)
        if pose.line and not one.within:
            lines.paste(0, mask=canvas)
            _trace(lines, [frame.fine_points(each) for each in (*one.outlines, *one.holes)], pose)
            if len(one.outlines) > 1:
                lines = _without_inner(lines, one, frame, pose)
        layers.append((one.role, _averaged(canvas)))
    if pose.line:
        silhouette = ImageChops.lighter(silhouette, lines)
    across, down = frame.own_coordinates()
    return Cutout(
        coverage=_averaged(silhouette),
        layers=tuple(layers),
        lines=_averaged(lines) if pose.line else None,
        across=across,
        down=down,
    )


class _Frame:
    """Where the drawing's plane lies on the pixels."""

    def __init__(self, pose: Pose, outer: Outline) -> None:
        angle = np.radians(pose.angle)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        shape = np.diag([pose.stretch * (-1 if pose.flipped else 1), 1.0])
        posed = outer @ (turn @ shape).T
        low, high = posed.min(axis=0), posed.max(axis=0)
        scale = (pose.side - pose.line) / (high - low).max()
        self._matrix = turn @ shape * scale
        self._shift = _MARGIN + pose.line / 2 - low * scale
        extent = (high - low) * scale + pose.line + 2 * _MARGIN
        self.size = (int(np.ceil(extent[0])), int(np.ceil(extent[1])))
        self._middle = (outer.min(axis=0) + outer.max(axis=0)) / 2
        self._half = np.ptp(outer, axis=0).max() / 2

    def fine_points(self, points: Outline) -> list[tuple[float, float]]:
        # A pixel's centre is at a half for us and at a whole number for Pillow.
        placed = (points @ self._matrix.T + self._shift) * FINE - 0.5
        return [(x, y) for x, y in placed.tolist()]

    def own_coordinates(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        width, height = self.size
        x, y = np.arange(width) + 0.5 - self._shift[0], np.arange(height) + 0.5 - self._shift[1]
        back = np.linalg.inv(self._matrix)
        across = back[0, 0] * x[None, :] + back[0, 1] * y[:, None]
        down = back[1, 0] * x[None, :] + back[1, 1] * y[:, None]
        middle, half = self._middle, self._half
        return (
            ((across - middle[0]) / half).astype(np.float32),
            ((down - middle[1]) / half).astype(np.float32),
        )


def _trace(canvas: Image.Image, rings: list[list[tuple[float, float]]], pose: Pose) -> None:
    draw = ImageDraw.Draw(canvas)
    width = max(2, round(pose.line * FINE))
    for ring in rings:
        draw.line([*ring, *ring[:2]], fill=255, width=width, joint="curve")


def _without_inner(lines: Image.Image, one: Part, frame: _Frame, pose: Pose) -> Image.Image:
    """Without the lines that run inside the union of the part's overlapping outlines."""
    draw = ImageDraw.Draw(lines)
    width = max(2, round(pose.line * FINE))
    for each in one.outlines:
        ring = frame.fine_points(each)
        inner = Image.new("L", lines.size)
        pen = ImageDraw.Draw(inner)
        pen.polygon(ring, fill=255)
        pen.line([*ring, *ring[:2]], fill=0, width=width, joint="curve")
        draw.bitmap((0, 0), inner, fill=0)
    for each in one.holes:
        ring = frame.fine_points(each)
        draw.line([*ring, *ring[:2]], fill=255, width=width, joint="curve")
    return lines


def _averaged(canvas: Image.Image) -> NDArray[np.float32]:
    return np.asarray(canvas.reduce(FINE), dtype=np.float32) / np.float32(255)
