"""Estimate how many images of a corpus show a category, from their cosines with its text.

The cosines of a text with all images of a corpus are a mixture of two groups, as in Efron,
"Large-Scale Inference" (2010), chapter 5: the background, images that don't show the category, and
those that do. Both are fitted to a histogram of the cosines by maximum likelihood of Poisson
counts, and the size of the second group is the estimate.

- The background falls off on both sides of its mode: to the left as a normal distribution, to the
  right as exp(-½ (x / width)^b) with a width of its own and b from 1 to 3, since there are images
  of what resembles the category.
- The category is a normal distribution, of images in which the object is large and alone, and a
  ramp that rises from the background's mode to that peak, of images in which it is small or one of
  many.

Normal priors on the shapes decide where few images do. The second group has to make the fit better
by `_EVIDENT` nats, or the estimate is 0.

Bins above the k-th best score are counted in the whole corpus, which a search has seen; bins below
in the sample. Scores alone don't tell everything: images of something that scores as the category
does are counted, and a category that scores as the background does is missed.

Dimensions:
    r  sets of parameters
    b  bins
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, gamma

from tasks.retrieval.score_background import FEWEST, Background

_STEP: Final = 0.1
"""Width of a bin in standard deviations of the background, the unit of all that follows."""
_EVIDENT: Final = 4.0
"""Gain in log-likelihood from which a category counts as shown."""

# Both groups' parameters: the background's mode, the logarithms of its widths to the left and to
# the right, and its exponent b; the category's peak, the logarithm of its width, the log-odds of
# the ramp's share, and the logarithm of the number of images.
_START: Final = np.array([0.0, 0.0, 0.0, 1.8, 4.0, -0.7, -1.4, 0.0])
_LOWEST: Final = np.array([-1.0, -0.5, -0.5, 1.0, 2.5, -2.5, -5.0, -3.0])
_HIGHEST: Final = np.array([1.0, 0.5, 1.0, 3.0, np.inf, 0.7, 1.5, np.inf])
_PEAK, _COUNT = 4, 7
_NO_IMAGE: Final = -20.0

# Priors: of the difference of the logarithms of the widths, of b, of the category's width and ramp.
_USUAL: Final = np.array([0.0, 1.8, -0.36, -1.4])
_DEVIATION: Final = np.array([0.2, 0.5, 0.5, 0.7])

_SHIFT: Final = 1e-6
"""Of a parameter, for the gradient."""
_FARTHEST: Final = 40.0
_TINY: Final = 1e-12


def estimate_count(sample: np.ndarray, best: np.ndarray, images: int) -> int | None:
    """Estimate how many images show a category.

    Args:
        sample: [m], cosines with an even sample of the corpus, or with all of it.
        best: [k], the k highest cosines in the corpus.
        images: number of images in the corpus.

    Returns:
        The estimate; 0 where the scores don't stand out, None where there are fewer than 20 images,
        too few for any statement.
    """
    if len(sample) < FEWEST:
        return None
    histogram = _Histogram.of(sample, best, images)
    without = _START.copy()
    without[_COUNT] = _NO_IMAGE
    alone = _fit(histogram, without)
    both = min((_fit(histogram, start) for start in _starts(histogram)), key=lambda fit: fit.loss)
    if alone.loss - both.loss < _EVIDENT:
        return 0
    return round(float(np.exp(both.parameters[_COUNT])))


@dataclass(frozen=True)
class _Histogram:
    """The cosines of a corpus in bins.

    Attributes:
        middles: [b], middles of the bins, from the background's centre.
        counts: [b], cosines in them.
        shares: [b], share of the corpus in which they were counted.
        images: number of images in the corpus.
    """

    middles: np.ndarray
    counts: np.ndarray
    shares: np.ndarray
    images: int

    @classmethod
    def of(cls, sample: np.ndarray, best: np.ndarray, images: int) -> _Histogram:
        background = Background.of(sample)
        unit = background.spread or 1.0
        sample, best = (
            np.clip((scores - background.centre) / unit, -_FARTHEST, _FARTHEST)
            for scores in (sample, best)
        )
        edges = np.arange(np.floor(min(sample.min(), best.min())), best.max() + 1.0, _STEP)
        counts, _ = np.histogram(sample, edges)
        searched = np.searchsorted(edges, best.min()) if len(best) < images else 0
        counts[searched:] = np.histogram(best, edges)[0][searched:]
        shares = np.where(np.arange(len(counts)) < searched, len(sample) / images, 1.0)
        return cls((edges[:-1] + edges[1:]) / 2, counts, shares, images)


@dataclass(frozen=True)
class _Fit:
    """Parameters [8], and their negative log-likelihood with the priors."""

    parameters: np.ndarray
    loss: float


def _starts(histogram: _Histogram) -> list[np.ndarray]:
    """Parameters to begin with, which differ in where the category's peak is."""
    above = np.cumsum((histogram.counts / histogram.shares)[::-1])[::-1]
    lowest = np.searchsorted(histogram.middles[:-1], 3.0)
    starts = []
    for few in (5, 50):
        place = max(np.flatnonzero(above >= min(few, above[0]))[-1], lowest)
        start = _START.copy()
        start[_PEAK] = histogram.middles[place]
        start[_COUNT] = np.log(max(1.5 * above[place], 2.0))
        starts.append(start)
    return starts


def _highest(histogram: _Histogram) -> np.ndarray:
    highest = _HIGHEST.copy()
    highest[[_PEAK, _COUNT]] = max(histogram.middles[-1] - 0.5, 2.6), np.log(0.7 * histogram.images)
    return highest


def _fit(histogram: _Histogram, start: np.ndarray) -> _Fit:
    """The likeliest parameters near a start; of a start without images, those of the background."""
    lowest, highest = _LOWEST.copy(), _highest(histogram)
    if start[_COUNT] == _NO_IMAGE:
        lowest[_PEAK:] = highest[_PEAK:] = start[_PEAK:]
        start = start.copy()
    found = minimize(
        lambda parameters: _loss_and_gradient(histogram, parameters),
        np.clip(start, lowest, highest),
        jac=True,
        method="L-BFGS-B",
        bounds=np.stack([lowest, highest], axis=1),
        options={"maxiter": 200, "ftol": 1e-8},
    )
    return _Fit(found.x, float(found.fun))


def _loss_and_gradient(histogram: _Histogram, parameters: np.ndarray) -> tuple[float, np.ndarray]:
    """Loss of parameters [8], and its gradient [8] by differences."""
    shifts = np.diag(np.full(len(parameters), _SHIFT))
    losses = _losses(histogram, np.vstack([parameters, parameters + shifts]))
    return float(losses[0]), (losses[1:] - losses[0]) / _SHIFT


def _losses(histogram: _Histogram, parameters: np.ndarray) -> np.ndarray:
    """Negative log-likelihood [r] of the histogram and of the priors, for parameters [r, 8]."""
    density = _density(histogram.middles, parameters.T[:, :, None], histogram.images)
    expected = density * _STEP * histogram.shares + _TINY
    likelihood = (histogram.counts * np.log(expected) - expected).sum(axis=1)
    _, left, right, exponent, _, width, ramp, _ = parameters.T
    shapes = np.stack([right - left, exponent, width, ramp], axis=1)
    return np.asarray((((shapes - _USUAL) / _DEVIATION) ** 2).sum(axis=1) / 2 - likelihood)


def _density(middles: np.ndarray, parameters: np.ndarray, images: int) -> np.ndarray:
    """Images [r, b] a standard deviation, for parameters [8, r, 1]."""
    mode, left, right, exponent, peak, width, ramp, count = parameters
    left, right, width, ramp, count = *np.exp([left, right, width]), expit(ramp), np.exp(count)
    offset, length = middles - mode, peak - mode
    falling = np.where(offset < 0, (offset / left) ** 2, (np.abs(offset) / right) ** exponent)
    area = left * np.sqrt(np.pi / 2) + right * 2 ** (1 / exponent) * gamma(1 + 1 / exponent)
    background = np.exp(-falling / 2) / area
    large = np.exp(-(((middles - peak) / width) ** 2) / 2) / (width * np.sqrt(2 * np.pi))
    small = np.where((offset > 0) & (offset < length), 2 * offset / length**2, 0.0)
    shown = (1 - ramp) * large + ramp * small
    return np.asarray((images - count) * background + count * shown)
