"""Colour jitter, greyscale and Gaussian blur of small 8-bit images, in place and in few passes.

The operations are torchvision's on PIL images (`ColorJitter`, `RandomGrayscale`), as the ZUTIS
reference applies them (`datasets/base_dataset.py`): every step rounds to 8 bits as theirs does, so
brightness, contrast, saturation and greyscale are theirs to the bit. Hue is shifted in floating
point; PIL's goes by way of an 8-bit HSV image, which coarsens what it turns. The blur has as many
taps as its sigma needs; the reference (`datasets/augmentations/gaussian_blur.py`, SimCLR's) always
computes 39, most of which have no weight.

The loops are compiled, and don't hold the interpreter's lock.

Dimensions:
    h, w  rows, columns of an image
    m     pixels of a context
    r     radius of a blur
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from zutis_model.layers.compilation import compiled

Operation = Literal["brightness", "contrast", "saturation", "hue"]
Pixels = npt.NDArray[np.uint8]

# Beyond it, all taps together weigh less than a hundredth of a grey level.
_RADIUS_IN_SIGMAS = 4.0


@dataclass(frozen=True, kw_only=True)
class ColourJitter:
    """One draw of a colour jitter.

    Attributes:
        order: the four operations in the order in which they are applied.
        brightness, contrast, saturation: factors, at least 0; 1 changes nothing.
        hue: part of a full turn, -0.5..0.5; 0 changes nothing.
    """

    order: tuple[Operation, Operation, Operation, Operation]
    brightness: float
    contrast: float
    saturation: float
    hue: float

    def __post_init__(self) -> None:
        if sorted(self.order) != ["brightness", "contrast", "hue", "saturation"]:
            raise ValueError(f"order must have each of the four operations once, got {self.order}")
        for name in ("brightness", "contrast", "saturation"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if not -0.5 <= self.hue <= 0.5:
            raise ValueError(f"hue must be within -0.5..0.5, got {self.hue}")


@dataclass(frozen=True, eq=False)
class ColourContext:
    """Colours that stand for the whole image of which one part is augmented.

    Contrast is changed about the mean grey of the whole image, as it is by then; a few dozen
    colours that undergo the same operations give it without augmenting the rest of the image.

    Attributes:
        colours: uint8 [3, 1, m], RGB.
        weights: float [m], at least 0, not all 0: how much of the image each stands for.
    """

    colours: Pixels
    weights: npt.NDArray[np.floating]

    def mean_grey(self) -> float:
        """Mean luma, rounded to a whole grey level as torchvision does."""
        luma = _luma_of(self.colours)[0]
        return float(np.floor(np.average(luma, weights=self.weights) + 0.5))


def jitter_colours(pixels: Pixels, jitter: ColourJitter, context: ColourContext) -> None:
    """Change brightness, contrast, saturation and hue, in the order drawn.

    Args:
        pixels: uint8 [3, h, w], RGB, contiguous; changed in place.
        jitter: what to do.
        context: of the image that the pixels are a part of; its colours are not changed.

    Raises:
        ValueError: pixels of another type or shape.
    """
    _check(pixels)
    context = ColourContext(context.colours.copy(), context.weights)
    contrast = jitter.order.index("contrast")
    for place, operation in enumerate(jitter.order):
        pivot = context.mean_grey() if operation == "contrast" else 0.0
        # After the contrast, the context's colours are not needed.
        for colours in (pixels, context.colours) if place < contrast else (pixels,):
            if operation == "brightness":
                _scale_about(colours.reshape(-1), np.float32(0), np.float32(jitter.brightness))
            elif operation == "contrast":
                _scale_about(colours.reshape(-1), np.float32(pivot), np.float32(jitter.contrast))
            elif operation == "saturation":
                _saturate(colours.reshape(3, -1), np.float32(jitter.saturation))
            else:
                _turn_hue(colours.reshape(3, -1), np.float32(6.0 * jitter.hue))


def make_grey(pixels: Pixels) -> None:
    """Give all channels the luma of ITU-R 601, in place; uint8 [3, h, w], contiguous.

    Raises:
        ValueError: pixels of another type or shape.
    """
    _check(pixels)
    pixels[:] = _luma_of(pixels)


def blur_radius(sigma: float, largest: int) -> int:
    """Pixels on either side that a blur reads: as many as weigh anything, at most `largest`."""
    return min(int(np.ceil(_RADIUS_IN_SIGMAS * sigma)), largest)


def gaussian_blur(pixels: Pixels, sigma: float, radius: int) -> Pixels:
    """Blur each channel with a Gaussian cut off at `radius`; borders are mirrored.

    Mirrored as OpenCV does by default: the outermost pixel is not repeated.

    Args:
        pixels: uint8 [3, h, w], contiguous.
        sigma: in pixels, above 0.
        radius: at least 0; there are 2 radius + 1 taps.

    Returns:
        uint8 [3, h, w], rounded to the nearest level.

    Raises:
        ValueError: pixels of another type or shape, or a sigma or radius out of range.
    """
    _check(pixels)
    if not sigma > 0 or radius < 0:
        raise ValueError(f"a blur needs sigma > 0 and radius >= 0, got {sigma} and {radius}")
    distances = np.arange(-radius, radius + 1)
    taps = np.exp(-0.5 * (distances / sigma) ** 2)
    rows, columns = (_mirrored(size, radius) for size in pixels.shape[1:])
    return _blur(pixels, (taps / taps.sum()).astype(np.float32), rows, columns)


def _mirrored(size: int, radius: int) -> npt.NDArray[np.int64]:
    """Indices -radius..size-1+radius, those outside of 0..size-1 mirrored until they are inside."""
    period = max(2 * (size - 1), 1)
    indices = np.arange(-radius, size + radius) % period
    return np.minimum(indices, period - indices) if size > 1 else np.zeros_like(indices)


def _check(pixels: Pixels) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or len(pixels) != 3:
        raise ValueError(f"expected uint8 [3, h, w], got {pixels.dtype} {list(pixels.shape)}")
    if not pixels.flags.c_contiguous:
        raise ValueError("pixels must be contiguous, as they are changed in place")


def _luma_of(pixels: Pixels) -> Pixels:
    """uint8 [3, h, w] to uint8 [h, w]."""
    return _luma(pixels.reshape(3, -1)).reshape(pixels.shape[1:])


@compiled
def _luma(pixels: Pixels) -> Pixels:
    """PIL's fixed-point luma: uint8 [3, n] to uint8 [n]."""
    luma = np.empty(pixels.shape[1], np.uint8)
    for i in range(len(luma)):
        red, green, blue = pixels[0, i], pixels[1, i], pixels[2, i]
        luma[i] = np.uint8(
            (
                np.uint32(red) * np.uint32(19595)
                + np.uint32(green) * np.uint32(38470)
                + np.uint32(blue) * np.uint32(7471)
                + np.uint32(0x8000)
            )
            >> np.uint32(16)
        )
    return luma


@compiled
def _scale_about(values: Pixels, pivot: np.float32, factor: np.float32) -> None:
    """Move values away from the pivot; cut off, not rounded, as PIL's blending does."""
    for i in range(len(values)):
        moved = pivot + factor * (np.float32(values[i]) - pivot)
        values[i] = np.uint8(min(max(moved, np.float32(0)), np.float32(255)))


@compiled
def _saturate(pixels: Pixels, factor: np.float32) -> None:
    """Move each pixel away from its own luma."""
    for i in range(pixels.shape[1]):
        luma = np.float32(
            (
                np.uint32(pixels[0, i]) * np.uint32(19595)
                + np.uint32(pixels[1, i]) * np.uint32(38470)
                + np.uint32(pixels[2, i]) * np.uint32(7471)
                + np.uint32(0x8000)
            )
            >> np.uint32(16)
        )
        red = luma + factor * (np.float32(pixels[0, i]) - luma)
        green = luma + factor * (np.float32(pixels[1, i]) - luma)
        blue = luma + factor * (np.float32(pixels[2, i]) - luma)
        pixels[0, i] = np.uint8(min(max(red, np.float32(0)), np.float32(255)))
        pixels[1, i] = np.uint8(min(max(green, np.float32(0)), np.float32(255)))
        pixels[2, i] = np.uint8(min(max(blue, np.float32(0)), np.float32(255)))


@compiled
def _turn_hue(pixels: Pixels, sixths: np.float32) -> None:
    """Turn the hue of HSV by `sixths` of a full turn (-3..3), keeping saturation and value."""
    zero, one, two, four, six = (
        np.float32(0),
        np.float32(1),
        np.float32(2),
        np.float32(4),
        np.float32(6),
    )
    half, sixth = np.float32(0.5), np.float32(1 / 6)
    reds, greens, blues = pixels[0], pixels[1], pixels[2]
    for i in range(pixels.shape[1]):
        red, green, blue = np.float32(reds[i]), np.float32(greens[i]), np.float32(blues[i])
        value = max(red, green, blue)
        chroma = value - min(red, green, blue)
        scale = one / max(chroma, one)  # grey has no hue: any will do
        near_green = two + (blue - red) * scale
        near_blue = four + (red - green) * scale
        hue = near_green if value == green else near_blue
        hue = (green - blue) * scale if value == red else hue
        hue += sixths + six  # 2..14: never below 0
        # A channel falls with the distance from the hue that lacks it: red 5, green 3, blue 1.
        from_red, from_green, from_blue = hue + np.float32(5), hue + np.float32(3), hue + one
        from_red -= six * np.float32(np.int32(from_red * sixth))
        from_green -= six * np.float32(np.int32(from_green * sixth))
        from_blue -= six * np.float32(np.int32(from_blue * sixth))
        value += half  # rounds to the nearest
        red = value - chroma * min(max(min(from_red, four - from_red), zero), one)
        green = value - chroma * min(max(min(from_green, four - from_green), zero), one)
        blue = value - chroma * min(max(min(from_blue, four - from_blue), zero), one)
        reds[i], greens[i], blues[i] = np.uint8(red), np.uint8(green), np.uint8(blue)


@compiled
def _blur(
    pixels: Pixels,
    taps: npt.NDArray[np.float32],
    rows: npt.NDArray[np.int64],
    columns: npt.NDArray[np.int64],
) -> Pixels:
    """Vertically, then horizontally, one row at a time, so that sums stay in the nearest cache."""
    _, height, width = pixels.shape
    radius = (len(taps) - 1) // 2
    blurred = np.empty_like(pixels)
    padded = np.empty(width + 2 * radius, np.float32)
    sums = np.empty(width, np.float32)
    for channel in range(3):
        for y in range(height):
            sums[:] = np.float32(0)
            for k in range(len(taps)):
                tap, row = taps[k], pixels[channel, rows[y + k]]
                for x in range(width):
                    sums[x] += tap * np.float32(row[x])
            for x in range(len(padded)):
                padded[x] = sums[columns[x]]
            sums[:] = np.float32(0.5)  # rounds to the nearest
            for k in range(len(taps)):
                tap = taps[k]
                for x in range(width):
                    sums[x] += tap * padded[x + k]
            for x in range(width):
                blurred[channel, y, x] = np.uint8(min(sums[x], np.float32(255)))
    return blurred
