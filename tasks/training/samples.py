"""Training samples: 1 to 10 objects of the data set pasted together, as in the ZUTIS paper.

Section 3.3 of the paper; reference: `datasets/index_dataset.py`. Random choices, in their order:

1. The number of objects, and whether all are of one category (`random_duplicate`), which is then
   drawn first, uniformly over categories. Otherwise objects are drawn uniformly over all of the
   data set. The same one may be drawn twice.
2. For each object: its image's scale, the crop, the flip, colour jitter, greyscale and blur, and
   (except for the first, whose image is the canvas) its position.

Where images have several labelled objects, the first one's image shows all of its own, which are
instances, too; of the others only the drawn object is pasted.

`sample_rendering` renders the choices. Sample `i` depends only on the data set, the recipe, the
seed and `i`, and not on the process or on earlier samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from storage.errors.exceptions import ConfigError
from storage.errors.numbers import check_numbers
from storage.shards.samples import ShardSamples
from zutis_model.training.copy_paste import uniform_index

# Importing torch takes seconds and Numba half a second, which a recipe alone should not cost.
if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.data import Dataset

    from tasks.training.sample_rendering import ObjectDraw
    from zutis_model.training.photometric import ColourJitter, Operation

    _Dataset = Dataset["TrainingSample"]
else:
    _Dataset = object  # DataLoader needs no more


_OPERATIONS: tuple[Operation, ...] = ("brightness", "contrast", "saturation", "hue")
_PROBABILITIES = ("same_category_probability", "flip", "jitter_probability", "greyscale", "blur")
_MOST_OBJECTS = 255
_SMALLEST_CROP = 16


@dataclass(frozen=True, kw_only=True)
class SampleRecipe:
    """Distribution of the training samples; the defaults are those of the published models.

    Attributes:
        crop: rows and columns of a sample.
        min_objects, max_objects: limits of the number of objects; uniform.
        same_category_probability: that all objects of a sample are of one category.
        min_scale, max_scale: of an image; uniform.
        flip: probability of exchanging left and right.
        jitter: brightness, contrast, saturation, hue as in torchvision's `ColorJitter`: a factor
            within 1 - x..1 + x, not below 0; hue within -x..x of a full turn.
        jitter_probability: of colour jitter.
        greyscale: probability of making the image grey.
        blur: probability of a Gaussian blur.
        min_sigma, max_sigma: of the blur, in pixels; uniform.
    """

    crop: int = 384
    min_objects: int = 1
    max_objects: int = 10
    same_category_probability: float = 0.5
    min_scale: float = 0.1
    max_scale: float = 1.0
    flip: float = 0.5
    jitter: tuple[float, float, float, float] = (0.8, 0.8, 0.8, 0.2)
    jitter_probability: float = 0.8
    greyscale: float = 0.2
    blur: float = 0.5
    min_sigma: float = 0.1
    max_sigma: float = 2.0

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.crop < _SMALLEST_CROP:
            raise ConfigError(f"crop must be at least {_SMALLEST_CROP}, not {self.crop}.")
        if not 1 <= self.min_objects <= self.max_objects <= _MOST_OBJECTS:
            raise ConfigError(
                f"min_objects and max_objects must be within 1..{_MOST_OBJECTS} and in this order, "
                f"not {self.min_objects} and {self.max_objects}."
            )
        for low, high in (("min_scale", "max_scale"), ("min_sigma", "max_sigma")):
            if not 0 < getattr(self, low) <= getattr(self, high) < np.inf:
                raise ConfigError(
                    f"{low} and {high} must be above 0 and in this order, not "
                    f"{getattr(self, low)} and {getattr(self, high)}."
                )
        for name in _PROBABILITIES:
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be within 0..1, not {getattr(self, name)}.")
        strengths = tuple(self.jitter)
        if len(strengths) != 4 or not all(0 <= x < np.inf for x in strengths) or strengths[3] > 0.5:
            raise ConfigError(
                "jitter must be four numbers of at least 0, of which the last (hue) is at most "
                f"0.5, not {self.jitter}."
            )


@dataclass(frozen=True, eq=False)
class TrainingSample:
    """One image with its labels.

    Attributes:
        image: float32 [3, s, s], normalised with ImageNet's statistics.
        semantic: uint8, or int32 with 16-bit label maps, [s, s]: 0 background, category_id, or
            `ignore_index` outside the first image.
        instances: bool [n, s, s], the visible part of each object, without overlaps. An object that
            is fully hidden or outside its image's crop is empty, and stays in the list as in the
            reference.
        category_ids: int64 [n].
        ignore_index: 255, or 65,535 with 16-bit label maps.
        weights: float32 [n], factors of the objects' losses; None: no factors.
    """

    image: Tensor
    semantic: Tensor
    instances: Tensor
    category_ids: Tensor
    ignore_index: int
    weights: Tensor | None = None


@dataclass(frozen=True, eq=False)
class TrainingBatch:
    """A batch of samples, for the criterion.

    Attributes:
        images: float32 [b, 3, s, s].
        semantic_masks: int64 [b, s, s].
        instance_masks, category_ids: of each image, as in `TrainingSample`.
        ignore_index: as in `TrainingSample`.
        object_weights: of each image, the `weights` of `TrainingSample`; None: no factors.
    """

    images: Tensor
    semantic_masks: Tensor
    instance_masks: list[Tensor]
    category_ids: list[Tensor]
    ignore_index: int
    object_weights: list[Tensor] | None = None

    def pin_memory(self) -> TrainingBatch:
        """The batch in page-locked memory; called by DataLoader with `pin_memory`."""
        return TrainingBatch(
            self.images.pin_memory(),
            self.semantic_masks.pin_memory(),
            [masks.pin_memory() for masks in self.instance_masks],
            [numbers.pin_memory() for numbers in self.category_ids],
            self.ignore_index,
            self.object_weights,  # they stay on the CPU
        )


class TrainingSamples(_Dataset):
    """Samples by number, for PyTorch's DataLoader, in any order.

    Args:
        shards: the data set.
        recipe: distribution of the samples.
        seed: of the samples, at least 0.
        length: number of samples; a larger one begins with the same samples.
        weights: float32 [n], a factor of the losses of each object of the data set; None: no
            factors.
    """

    def __init__(
        self,
        shards: ShardSamples,
        recipe: SampleRecipe,
        seed: int,
        length: int,
        weights: npt.NDArray[np.float32] | None = None,
    ) -> None:
        if seed < 0 or length < 0:
            raise ValueError(f"seed and length must be at least 0, got {seed} and {length}")
        self.shards, self.recipe, self.seed = shards, recipe, seed
        self._weights = weights
        self._length = length
        self._objects_by_category = list(shards.objects_by_category().values())

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, i: int) -> TrainingSample:
        """Sample `i`, 0..length-1.

        Raises:
            IndexError: there is no such sample.
            ArtifactError: a sample of the data set is damaged.
            StorageError: a shard can't be read.
        """
        import torch

        from tasks.training.sample_rendering import render
        from zutis_model.layers.normalisation import normalise

        draws = self.draws(i)
        canvas = render(self.shards, draws, self.recipe.crop)
        shown = self._instances(draws)
        labels = canvas.labels
        if labels.dtype != np.uint8:
            labels = labels.astype(np.int32)  # torch has few operations for uint16
        return TrainingSample(
            normalise(torch.from_numpy(canvas.pixels)),
            torch.from_numpy(labels),
            torch.from_numpy(canvas.instances()),
            torch.tensor(self.shards.objects.labels[shown].tolist()),
            self.shards.ignore_label,
            None if self._weights is None else torch.from_numpy(self._weights[shown]),
        )

    def draws(self, i: int) -> list[ObjectDraw]:
        """The random choices of sample `i`, without rendering it.

        Raises:
            IndexError: there is no such sample.
        """
        if not 0 <= i < self._length:
            raise IndexError(f"sample {i} of {self._length}")
        uniform = _uniform_numbers(self.seed, i)
        recipe, objects = self.recipe, self.shards.objects
        every = len(objects.labels)
        more = uniform_index(next(uniform), recipe.max_objects - recipe.min_objects + 1)
        same = next(uniform) < recipe.same_category_probability
        category = uniform_index(next(uniform), len(self._objects_by_category))
        pool = self._objects_by_category[category] if same else None
        draws = []
        for _ in range(recipe.min_objects + more):
            number = uniform_index(next(uniform), every if pool is None else len(pool))
            chosen = number if pool is None else int(pool[number])
            index, label = int(objects.samples[chosen]), int(objects.labels[chosen])
            place = int(objects.places[chosen]) if objects.several else None
            draws.append(_draw_object(recipe, index, label, place, uniform))
        return draws

    def _instances(self, draws: Sequence[ObjectDraw]) -> list[int]:
        """Indices into the data set's objects: all of the first image, then the others drawn."""
        first, *others = draws
        objects = self.shards.objects
        drawn = [objects.index_of(draw.index, draw.place or 0) for draw in others]
        return [*objects.range_of(first.index), *drawn]


def collate(samples: Sequence[TrainingSample]) -> TrainingBatch:
    """Batch samples of one data set and one size."""
    import torch

    weights = [sample.weights for sample in samples if sample.weights is not None]
    return TrainingBatch(
        torch.stack([sample.image for sample in samples]),
        torch.stack([sample.semantic for sample in samples]).to(torch.int64),
        [sample.instances for sample in samples],
        [sample.category_ids for sample in samples],
        samples[0].ignore_index,
        weights or None,
    )


def _uniform_numbers(seed: int, i: int) -> Iterator[float]:
    """Endless uniform numbers in [0, 1), the only source of randomness of sample `i`."""
    rng = np.random.default_rng([seed, i])
    while True:
        yield rng.random()  # only these are stable: NumPy may change other distributions


def _draw_object(
    recipe: SampleRecipe, index: int, label: int, place: int | None, uniform: Iterator[float]
) -> ObjectDraw:
    """Draw one object. It uses the same number of random numbers for any recipe, so that a change
    of one setting leaves the other choices unchanged."""
    from tasks.training.sample_rendering import ObjectDraw

    scale = _between(recipe.min_scale, recipe.max_scale, next(uniform))
    fill_first = _fill_first(next(uniform))
    offset = next(uniform), next(uniform)
    flip = next(uniform) < recipe.flip
    jittered, jitter = next(uniform) < recipe.jitter_probability, _draw_jitter(recipe, uniform)
    greyscale = next(uniform) < recipe.greyscale
    blurred, sigma = next(uniform) < recipe.blur, next(uniform)
    return ObjectDraw(
        index=index,
        label=label,
        scale=scale,
        fill_first=fill_first,
        offset=offset,
        flip=flip,
        jitter=jitter if jittered else None,
        greyscale=greyscale,
        sigma=_between(recipe.min_sigma, recipe.max_sigma, sigma) if blurred else 0.0,
        position=(next(uniform), next(uniform)),
        place=place,
    )


def _fill_first(u: float) -> tuple[bool, bool]:
    """Whether padding rows, and columns, are put before an image that is smaller than the crop.

    The reference draws again for each of the four corners, which gives them unequal probabilities:
    1/4, 3/16, 9/64 and 27/64. This is kept, because it affects the position of training images in
    their crops.
    """
    if u < 16 / 64:
        return True, True
    if u < 28 / 64:
        return False, True
    return u < 37 / 64, False


def _draw_jitter(recipe: SampleRecipe, uniform: Iterator[float]) -> ColourJitter:
    from zutis_model.training.photometric import ColourJitter

    brightness, contrast, saturation = (
        _between(max(1 - strength, 0.0), 1 + strength, next(uniform))
        for strength in recipe.jitter[:3]
    )
    hue = _between(-recipe.jitter[3], recipe.jitter[3], next(uniform))
    # Sorting by independent uniform numbers gives every order with equal probability.
    first, second, third, fourth = sorted(
        _OPERATIONS, key={name: next(uniform) for name in _OPERATIONS}.__getitem__
    )
    return ColourJitter(
        order=(first, second, third, fourth),
        brightness=brightness,
        contrast=contrast,
        saturation=saturation,
        hue=hue,
    )


def _between(low: float, high: float, u: float) -> float:
    return low + (high - low) * u
