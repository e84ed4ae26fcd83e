"""Outlines of shapes as polygons in a plane of their own: x to the right, y down, no unit.

An outline is float64 [n, 2] of (x, y), closed without repeating its first point. Angles are in
degrees, from the right by way of below.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Outline = NDArray[np.float64]


def outline(*points: tuple[float, float]) -> Outline:
    """The polygon through these points."""
    return np.array(points, dtype=np.float64)


def arc(
    x: float, y: float, width: float, height: float, start: float, end: float, points: int = 24
) -> Outline:
    """Points on the ellipse with these half axes, both ends included."""
    angles = np.radians(np.linspace(start, end, points))
    return np.stack([x + width * np.cos(angles), y + height * np.sin(angles)], axis=1)


def ellipse(x: float, y: float, width: float, height: float | None = None) -> Outline:
    """An ellipse of these half axes; a circle without `height`."""
    return arc(x, y, width, width if height is None else height, 0, 348.75, 32)


def box(left: float, top: float, right: float, bottom: float) -> Outline:
    """A rectangle."""
    return outline((left, top), (right, top), (right, bottom), (left, bottom))


def rays(radii: ArrayLike, start: float = -90.0) -> Outline:
    """Points around the origin at evenly spaced angles, at these distances."""
    lengths = np.asarray(radii, dtype=np.float64)
    angles = np.radians(start + np.arange(len(lengths)) * 360 / len(lengths))
    return np.stack([lengths * np.cos(angles), lengths * np.sin(angles)], axis=1)


def curve(points: ArrayLike, steps: int = 8) -> Outline:
    """An open smooth curve through the points (Catmull-Rom)."""
    knots = np.asarray(points, dtype=np.float64)
    return _spline(np.concatenate([knots[:1], knots, knots[-1:]]), steps, close=False)


def smooth(points: ArrayLike, steps: int = 8) -> Outline:
    """A closed smooth curve through the points (Catmull-Rom)."""
    knots = np.asarray(points, dtype=np.float64)
    return _spline(np.concatenate([knots[-1:], knots, knots[:2]]), steps, close=True)


def _spline(knots: Outline, steps: int, close: bool) -> Outline:
    share = (np.arange(steps) / steps)[None, :, None]
    before, here, there, after = (knots[at : len(knots) - 3 + at, None] for at in range(4))
    pieces = 0.5 * (
        2 * here
        + (there - before) * share
        + (2 * before - 5 * here + 4 * there - after) * share**2
        + (3 * here - before - 3 * there + after) * share**3
    )
    points = pieces.reshape(-1, 2)
    return points if close else np.concatenate([points, knots[-2:-1]])


def softened(points: Outline, cut: float, times: int = 2) -> Outline:
    """The outline with its corners cut off at this share of the sides (up to 0.5; Chaikin)."""
    for _ in range(times):
        following = np.roll(points, -1, axis=0)
        near = points + cut * (following - points)
        far = following - cut * (following - points)
        points = np.stack([near, far], axis=1).reshape(-1, 2)
        cut = 0.25
    return points


def ribbon(path: ArrayLike, width: float | Sequence[float], round_ends: bool = True) -> Outline:
    """A band along an open path: `width` across all of it, or from its first to its last point."""
    line = np.asarray(path, dtype=np.float64)
    if isinstance(width, float | int):
        half = np.full(len(line), width / 2)
    else:
        half = np.linspace(width[0], width[1], len(line)) / 2
    along = np.gradient(line, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1) * half[:, None]
    pieces = [line + across]
    if round_ends:
        pieces.append(_cap(line[-1], across[-1], along[-1] * half[-1]))
    pieces.append((line - across)[::-1])
    if round_ends:
        pieces.append(_cap(line[0], -across[0], -along[0] * half[0]))
    return np.concatenate(pieces)


def _cap(end: Outline, side: Outline, ahead: Outline) -> Outline:
    angles = np.radians(np.linspace(30, 150, 5))[:, None]
    return end + side * np.cos(angles) + ahead * np.sin(angles)


def both_sides(profile: ArrayLike) -> Outline:
    """The outline of which the profile, from top to bottom, is the right half."""
    right = np.asarray(profile, dtype=np.float64)
    return np.concatenate([right, (right * [-1, 1])[::-1]])


def moved(points: Outline, x: float, y: float) -> Outline:
    """The outline shifted."""
    return np.asarray(points + np.array([x, y]))


def turned(points: Outline, angle: float) -> Outline:
    """The outline turned about the origin."""
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return np.asarray(points @ np.array([[cosine, sine], [-sine, cosine]]))


def scaled(points: Outline, factor: float) -> Outline:
    """The outline larger or smaller by the factor, about the origin."""
    return points * factor
