"""Outlines of masks as polygons from which rasterisers give the same pixels back.

Rasterisers differ in what a polygon's corners are. pycocotools takes them for points between
pixels: `corner_polygons` follows the edges of pixels. OpenCV takes them for pixels, and draws the
outline as well as the inside: `pixel_polygon` steps from pixel to pixel inside the mask.

A polygon holds no hole. Each hole is therefore joined to the outline above it by a cut, which the
polygon runs along forth and back, so that it encloses nothing.

Dimensions:
    h, w  rows, columns of a mask
    n     corners of a polygon
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Mask: TypeAlias = npt.NDArray[np.bool_]
Polygon: TypeAlias = npt.NDArray[np.int64]
"""int64 [n, 2] of x, y; the last corner is joined to the first."""

_Point: TypeAlias = tuple[int, int]
"""y, x."""

# Right, down, left, up as steps of y, x; and the pixel to the right of each, seen from its start.
# The mask is on the right of its outline, which therefore runs clockwise, and around holes counter
# to that.
_STEPS: Final = ((0, 1), (1, 0), (0, -1), (-1, 0))
_PIXELS: Final = ((0, 0), (0, -1), (-1, -1), (-1, 0))
_RIGHT, _LEFT = 0, 2

# Of distances that are computed in two ways.
_ROUNDING: Final = 1e-6


def corner_polygons(mask: Mask) -> list[Polygon]:
    """Polygons along the edges of pixels, one for each 4-connected piece of a mask, bool [h, w].

    Corners are 0..w and 0..h. pycocotools rasterises them to the same mask, and so does whatever
    takes the pixels whose centres are inside by the even-odd rule.
    """
    return [_as_polygon(walk) for walk in _walks(mask, _corners, lambda _, after: after.start)]


def pixel_polygon(mask: Mask) -> Polygon:
    """One polygon through pixels of a mask, bool [h, w]; its corners are pixels, 0..w-1 and 0..h-1.

    OpenCV's `fillPoly` gives the same mask back if it is one piece. Several pieces are joined by
    straight lines, each where it is closest to those before it: what these lines, one pixel wide,
    cover is all that comes to the mask. Of an empty mask: [0, 2].
    """
    walks = _walks(mask, _pixels, lambda above, _: above.pixel)
    return _as_polygon(_in_one(walks)) if walks else np.empty((0, 2), np.int64)


def pixel_polygons(mask: Mask) -> list[Polygon]:
    """Such polygons, one for each 4-connected piece of a mask, bool [h, w]."""
    return [_as_polygon(walk) for walk in _walks(mask, _pixels, lambda above, _: above.pixel)]


class _Edge(NamedTuple):
    """A side of a pixel on the outline: the point between pixels where it starts, its direction."""

    start: _Point
    direction: int

    @property
    def end(self) -> _Point:
        down, right = _STEPS[self.direction]
        return self.start[0] + down, self.start[1] + right

    @property
    def pixel(self) -> _Point:
        """The pixel of the mask whose side it is."""
        down, right = _PIXELS[self.direction]
        return self.start[0] + down, self.start[1] + right


_Ring: TypeAlias = list[_Edge]
_Walk: TypeAlias = list[_Point]


def _corners(before: _Edge, edge: _Edge) -> _Walk:
    """The points that a walk along corners has for an edge."""
    return [edge.start]


def _pixels(before: _Edge, edge: _Edge) -> _Walk:
    """The pixels that a walk inside the mask has for an edge; round a corner by way of the pixel
    in it, so that all steps are to one of four neighbours."""
    turns_left = (edge.direction - before.direction) % 4 == 3
    return [_Edge(before.end, before.direction).pixel, edge.pixel] if turns_left else [edge.pixel]


def _walks(
    mask: Mask,
    points: Callable[[_Edge, _Edge], _Walk],
    meeting: Callable[[_Edge, _Edge], _Point],
) -> list[_Walk]:
    """A closed walk for each 4-connected piece, its holes joined to it.

    Args:
        mask: bool [h, w].
        points: those of an edge, given the one before it.
        meeting: where a walk around a hole begins and ends, given its leftmost edge at the top and
            the edge after that.
    """
    rings = _rings(mask)
    place = {
        edge: (number, at) for number, ring in enumerate(rings) for at, edge in enumerate(ring)
    }
    cuts: dict[tuple[int, int], list[_Walk]] = {}

    def walk(number: int, first: int = 0) -> _Walk:
        ring, found = rings[number], _Walk()
        for step in range(first, first + len(ring)):
            at = step % len(ring)
            found += points(ring[at - 1], ring[at])
            for hole in cuts.get((number, at), ()):
                found += [*hole, found[-1]]
        return found

    outer = []
    # Holes from the lowest on, so that those that hang on another are there when it is walked.
    for number in sorted(range(len(rings)), key=lambda number: min(rings[number]), reverse=True):
        ring = rings[number]
        top = min(edge.end for edge in ring)
        at = next(at for at, edge in enumerate(ring) if edge.end == top)
        if ring[at].direction != _LEFT:
            outer.append(number)
            continue
        above, after = ring[at], ring[(at + 1) % len(ring)]
        ends = meeting(above, after)
        hole = [ends, *walk(number, at + 1), ends]
        cuts.setdefault(place[_edge_above(mask, above.pixel)], []).append(hole)
    return [walk(number) for number in reversed(outer)]


def _edge_above(mask: Mask, pixel: _Point) -> _Edge:
    """The first edge of the outline straight above a pixel of the mask."""
    row, column = pixel
    while row > 0 and mask[row - 1, column]:
        row -= 1
    return _Edge((row, column), _RIGHT)


def _rings(mask: Mask) -> list[_Ring]:
    """The outlines of all pieces and holes, each from its first edge in reading order on."""
    leaving = _directions(mask)
    left = {
        _Edge(point, direction): None for point in sorted(leaving) for direction in leaving[point]
    }
    rings = []
    while left:
        edge = next(iter(left))
        ring: _Ring = []
        while edge in left:
            del left[edge]
            ring.append(edge)
            # Where pieces touch in a point, to the right: the outline stays with its piece.
            ways, right = leaving[edge.end], (edge.direction + 1) % 4
            edge = _Edge(edge.end, right if right in ways else ways[0])
        rings.append(ring)
    return rings


def _directions(mask: Mask) -> dict[_Point, list[int]]:
    """The directions of the edges that start at each point of the outlines."""
    padded = np.pad(mask, 1)
    inside, above, left = padded[1:, 1:], padded[:-1, 1:], padded[1:, :-1]
    starts = (
        np.argwhere(inside & ~above),
        np.argwhere(left & ~inside),
        np.argwhere(above & ~inside) + np.array([0, 1]),
        np.argwhere(inside & ~left) + np.array([1, 0]),
    )
    leaving: dict[_Point, list[int]] = {}
    for direction, places in enumerate(starts):
        for row, column in places.tolist():
            leaving.setdefault((row, column), []).append(direction)
    return leaving


def _in_one(walks: list[_Walk]) -> _Walk:
    """The walks as one: always the closest to those before is joined next, where it is closest."""
    from scipy.spatial import cKDTree

    joined, others = walks[0], list(walks[1:])
    newest = joined
    # Of each other walk: how far it is, which of its points is closest, and to which point.
    near = [(np.inf, 0, (0, 0))] * len(others)
    boxes = np.array([_box(other) for other in others]).reshape(-1, 2, 2)
    while others:
        tree = cKDTree(newest)
        # Most others are further from the newest walk than from those before it: their boxes tell.
        gaps = _gaps(_box(newest), boxes)
        bounds = np.array([distance for distance, _, _ in near]) + _ROUNDING
        for number in np.flatnonzero(gaps <= bounds).tolist():
            distances, places = tree.query(others[number])
            at = int(np.argmin(distances))
            near[number] = min(near[number], (float(distances[at]), at, newest[int(places[at])]))
        number = near.index(min(near))
        boxes = np.delete(boxes, number, axis=0)
        (_, at, point), newest = near.pop(number), others.pop(number)
        to = joined.index(point)
        joined = [*joined[: to + 1], *newest[at:], *newest[: at + 1], *joined[to:]]
    return joined


def _box(walk: _Walk) -> npt.NDArray[np.int64]:
    """Least and largest y, x of a walk, int64 [2, 2]."""
    points = np.array(walk, dtype=np.int64)
    return np.stack([points.min(axis=0), points.max(axis=0)])


def _gaps(box: npt.NDArray[np.int64], boxes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Distances, float64 [n], of a box, [2, 2], from others, [n, 2, 2]: none of their points are
    closer."""
    apart = np.maximum(box[0] - boxes[:, 1], boxes[:, 0] - box[1]).clip(min=0)
    gaps: npt.NDArray[np.float64] = np.hypot(apart[:, 0], apart[:, 1])
    return gaps


def _as_polygon(walk: _Walk) -> Polygon:
    """The walk's corners as x, y, without repetitions and points on the way straight on."""
    points = np.array(walk, dtype=np.int64)
    moved = (points != np.roll(points, 1, axis=0)).any(axis=1)
    if not moved.any():  # one pixel
        return points[:1, ::-1]
    points = points[moved]
    come, go = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    straight = (come[:, 0] * go[:, 1] == come[:, 1] * go[:, 0]) & ((come * go).sum(axis=1) > 0)
    corners: Polygon = points[~straight, ::-1]
    return corners
