"""Drawn predictions: label maps in colours, and overlays of labels and instances on images.

Predictions are not changed; images are shown at a size at which category names are readable.

Dimensions:
    h, w  rows, columns of an image
    k     categories, without the background
    n     instances in an image
"""

from __future__ import annotations

import colorsys
import io
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

if TYPE_CHECKING:
    from tasks.prediction.dense_segmenter import Segmentation

Colour = tuple[int, int, int]
_Box = tuple[float, float, float, float]
_Value = TypeVar("_Value", bound=np.generic)

LARGEST_8_BIT_LABEL = 254
"""With more categories a label map has 16 bits; the highest value is "ignore"."""

_GOLDEN_RATIO = 0.618034
# Lightness and saturation alternate along the list, so that repeated hues still differ.
_TONES = ((0.50, 1.00), (0.70, 0.80), (0.35, 0.90))

_SHORTEST_SHOWN, _LONGEST_SHOWN = 320, 2048
_OPACITY = 0.45
_MOST_NAMES = 30
_SMALLEST_NAMED_PART = 0.005  # of the image
_SMALLEST_FONT = 13
_DARK_ENOUGH_FOR_WHITE = 0.3  # luminance
_GAP = 4
_GRID = 256  # points along a side, to look for the middle of a mask
_NOTHING = -1


def colours_of(num_categories: int) -> NDArray[np.uint8]:
    """A colour for each label: uint8 [k + 1, 3], black for the background.

    A label's colour doesn't depend on the number of categories, so that overlays are comparable.
    """
    colours = [(0, 0, 0), *(_colour(label) for label in range(num_categories))]
    return np.array(colours, dtype=np.uint8)


def encode_label_map(labels: NDArray[np.integer[Any]], num_categories: int) -> bytes:
    """A PNG whose values are the labels.

    Args:
        labels: int [h, w] in 0..k.
        num_categories: k. Up to 254, the map has 8 bits and the palette of `colours_of`; above, it
            is 16-bit grey, for which PNG has no palette.
    """
    buffer = io.BytesIO()
    if num_categories > LARGEST_8_BIT_LABEL:
        image = Image.fromarray(labels.astype(np.uint16))
    else:
        image = Image.fromarray(labels.astype(np.uint8, copy=False))
        image.putpalette(colours_of(num_categories).tobytes())
    image.save(buffer, "PNG")
    return buffer.getvalue()


def shown(image: Image.Image) -> NDArray[np.uint8]:
    """An image, RGB, at its display size: uint8 [rows, columns, 3], up to 2,048 a side. Overlays on
    it are the same as on the original."""
    height, width = _shown_size(image.height, image.width)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image)


def draw_overlay(
    pixels: NDArray[np.uint8], segmentation: Segmentation, names: Sequence[str], *, remark: str = ""
) -> Image.Image:
    """Labels and instances of an image, side by side.

    Args:
        pixels: uint8 [h, w, 3], RGB, or those of `shown`.
        segmentation: of the image.
        names: of the k categories; label i is `names[i - 1]`.
        remark: written below, for instance that the weights are untrained.

    Returns:
        RGB, twice as wide as the image. Small images are enlarged and large ones reduced.
    """
    panels = [
        draw_labels(pixels, segmentation.narrow_labels, names),
        draw_instances(pixels, segmentation, names),
    ]
    width, height = panels[0].size
    font = _font(_font_size(height, width), remark)
    footer = _text_size(font, remark)[1] + 2 * _GAP if remark else 0
    sheet = Image.new("RGB", (2 * width + _GAP, round(height + footer)), "white")
    for number, panel in enumerate(panels):
        sheet.paste(panel, (number * (width + _GAP), 0))
    if remark:
        ImageDraw.Draw(sheet).text((_GAP, height + _GAP), remark, "black", font, anchor="lt")
    return sheet


def draw_labels(
    pixels: NDArray[np.uint8], labels: NDArray[np.integer[Any]], names: Sequence[str]
) -> Image.Image:
    """An image with its labels in colours, each named at its innermost pixel.

    Args:
        pixels: uint8 [h, w, 3], RGB, or those of `shown`.
        labels: int [h, w] in 0..k.
        names: of the k categories.
    """
    height, width = labels.shape
    small = _nearest(labels, _shown_size(height, width)).astype(np.int32)
    colours = colours_of(len(names))
    image = _tinted(pixels, small, colours)
    areas = np.bincount(small.ravel(), minlength=len(names) + 1)
    areas[0] = 0
    largest = np.argsort(-areas, kind="stable")[:_MOST_NAMES]
    writer = _NameWriter(image)
    for label in largest[areas[largest] >= _SMALLEST_NAMED_PART * small.size].tolist():
        x, y = _innermost(small == label)
        writer.write(names[label - 1], (x, y), colours[label])
    return image


def draw_instances(
    pixels: NDArray[np.uint8], segmentation: Segmentation, names: Sequence[str]
) -> Image.Image:
    """An image with its instances: tinted, outlined, with name and score.

    Where they overlap, the one of higher score is on top.

    Args:
        pixels: uint8 [h, w, 3], RGB, or those of `shown`.
        segmentation: of the image.
        names: of the k categories.
    """
    instances = segmentation.instances
    category_ids = instances.category_ids.tolist()
    return draw_named_masks(
        pixels,
        instances.each_mask(),
        category_ids,
        [
            f"{names[category - 1]} {score:.2f}"
            for category, score in zip(category_ids, instances.scores, strict=True)
        ],
    )


def draw_named_masks(
    pixels: NDArray[np.uint8],
    masks: Iterable[NDArray[np.bool_]],
    category_ids: Sequence[int],
    texts: Sequence[str],
    *,
    font_size: int = 0,
) -> Image.Image:
    """An image with masks in their categories' colours: tinted, outlined, each with a text.

    Args:
        pixels: uint8 [h, w, 3], RGB.
        masks: n of bool [h, w], iterated once; where they overlap, the earlier one is on top.
        category_ids: n of them, from 1.
        texts: n of them.
        font_size: in pixels of the drawn image; 0: derived from its size.
    """
    size = _shown_size(*pixels.shape[:2])
    top = _topmost((_nearest(mask, size) for mask in masks), size)
    colours = colours_of(max(category_ids, default=0))
    own_colours = np.concatenate([np.zeros((1, 3), np.uint8), colours[list(category_ids)]])
    image = _tinted(pixels, top + 1, own_colours)
    writer = _NameWriter(image, font_size)
    visible = ndimage.find_objects(top + 1)[:_MOST_NAMES]
    for index, part in enumerate(visible):
        if part is None:  # fully hidden by others
            continue
        rows, columns = part
        x, y = _innermost(top[part] == index)
        writer.write(texts[index], (columns.start + x, rows.start + y), own_colours[index + 1])
    return image


class _NameWriter:
    """Writes names on coloured plates that neither overlap nor extend beyond the image."""

    def __init__(self, image: Image.Image, size: int = 0) -> None:
        self._image = image
        self._draw = ImageDraw.Draw(image)
        self._size = size or _font_size(image.height, image.width)
        self._taken: list[_Box] = []

    def write(self, text: str, middle: tuple[float, float], colour: NDArray[np.uint8]) -> None:
        """Write around `middle` (x, y), or below it, or above."""
        font = _font(self._size, text)
        text = _shortened(text, font, self._image.width - 2 * _GAP)
        width, height = _text_size(font, text)
        width, height = width + _GAP, height + _GAP
        x = min(max(middle[0] - width / 2, 0), max(0, self._image.width - width))
        y = min(max(middle[1] - height / 2, 0), max(0, self._image.height - height))
        y = self._free(x, y, width, height)
        plate: Colour = (int(colour[0]), int(colour[1]), int(colour[2]))
        self._draw.rectangle((x, y, x + width - 1, y + height - 1), fill=plate)
        ink = "black" if _luminance(plate) > _DARK_ENOUGH_FOR_WHITE else "white"
        self._draw.text((x + _GAP / 2, y + _GAP / 2), text, ink, font, anchor="lt")
        self._taken.append((x, y, x + width, y + height))

    def _free(self, x: float, y: float, width: float, height: float) -> float:
        """The first free position below, or above, or else the requested one."""
        step = height + 1
        below = np.arange(y, self._image.height - height + 1, step)
        above = np.arange(y - step, -1, -step)
        for candidate in [*below.tolist(), *above.tolist()]:
            if not any(
                x < x2 and x1 < x + width and candidate < y2 and y1 < candidate + height
                for x1, y1, x2, y2 in self._taken
            ):
                return float(candidate)
        return y


def _colour(index: int) -> Colour:
    lightness, saturation = _TONES[index % len(_TONES)]
    red, green, blue = colorsys.hls_to_rgb((index * _GOLDEN_RATIO) % 1.0, lightness, saturation)
    return round(red * 255), round(green * 255), round(blue * 255)


def _luminance(colour: Colour) -> float:
    """Luminance, 0..1, which decides between black and white text."""
    red, green, blue = (float((value / 255) ** 2.2) for value in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _shown_size(height: int, width: int) -> tuple[int, int]:
    scale = max(1.0, _SHORTEST_SHOWN / min(height, width))
    scale = min(scale, _LONGEST_SHOWN / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _nearest(values: NDArray[_Value], size: tuple[int, int]) -> NDArray[_Value]:
    """Values [h, w] at another size."""
    rows = (np.arange(size[0]) + 0.5) * values.shape[0] / size[0]
    columns = (np.arange(size[1]) + 0.5) * values.shape[1] / size[1]
    found: NDArray[_Value] = values[rows.astype(int)[:, None], columns.astype(int)]
    return found


def _tinted(
    pixels: NDArray[np.uint8], regions: NDArray[np.int32], colours: NDArray[np.uint8]
) -> Image.Image:
    """The image with translucent regions and their outlines, at the size of `regions`.

    Region i has `colours[i]`; region 0 is unchanged.
    """
    height, width = regions.shape
    canvas = pixels.copy()
    if pixels.shape[:2] != (height, width):
        canvas = np.array(shown(Image.fromarray(pixels)))
    inside = regions > 0
    tint = colours[regions[inside]]
    canvas[inside] = np.rint((1 - _OPACITY) * canvas[inside] + _OPACITY * tint)
    outline = _outline(regions, thickness=max(3, min(height, width) // 150)) & inside
    canvas[outline] = colours[regions[outline]]
    # A dark line around the outline keeps it visible on a background of its own colour.
    canvas[_outline(regions, thickness=1)] //= 3
    return Image.fromarray(canvas)


def _outline(regions: NDArray[np.int32], thickness: int) -> NDArray[np.bool_]:
    """Bool [h, w]: pixels within `thickness` of another region."""
    side = 2 * thickness + 1
    highest = ndimage.maximum_filter(regions, side, mode="nearest")
    lowest = ndimage.minimum_filter(regions, side, mode="nearest")
    edge: NDArray[np.bool_] = highest != lowest
    return edge


def _topmost(masks: Iterable[NDArray[np.bool_]], size: tuple[int, int]) -> NDArray[np.int32]:
    """Of masks [h, w], best first, the index of the best one at each pixel; -1 for none."""
    topmost = np.full(size, _NOTHING, dtype=np.int32)
    for index, mask in enumerate(masks):
        topmost[mask & (topmost == _NOTHING)] = index
    return topmost


def _innermost(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """x, y of the pixel farthest from the mask's edge, the image's edge included.

    Of several, the one nearest to their mean. Large masks are sampled on a coarse grid, unless it
    misses the mask.
    """
    step = max(1, max(mask.shape) // _GRID)
    step = step if mask[::step, ::step].any() else 1
    distance = ndimage.distance_transform_edt(np.pad(mask[::step, ::step], 1))[1:-1, 1:-1]
    farthest = np.argwhere(distance >= distance.max() - 0.5)
    offsets = np.abs(farthest - farthest.mean(axis=0)).sum(axis=1)
    y, x = farthest[offsets.argmin()] * step
    return float(x), float(y)


def _font_size(height: int, width: int) -> int:
    return max(_SMALLEST_FONT, min(height, width) // 28)


@lru_cache(maxsize=16)
def _built_in_font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


@lru_cache(maxsize=16)
def _wide_font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """A font with more characters than PIL's own, if it is installed."""
    try:
        return ImageFont.truetype("DejaVuSans.ttf", size)
    except OSError:
        return _built_in_font(size)


def _font(size: int, text: str) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """PIL's own font, which is the same on all machines, if it has the characters."""
    return _built_in_font(size) if text.isascii() else _wide_font(size)


def _text_size(
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont, text: str
) -> tuple[float, float]:
    """Width of the text, and height of a line."""
    left, _, right, _ = font.getbbox(text)
    _, top, _, bottom = font.getbbox("Ág")
    return right - left, bottom - top


def _shortened(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: float) -> str:
    """The text, truncated if it is too wide for the image."""
    if _text_size(font, text)[0] <= width:
        return text
    while len(text) > 1 and _text_size(font, f"{text}...")[0] > width:
        text = text[:-1]
    return f"{text}..."
