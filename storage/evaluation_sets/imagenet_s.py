"""ImageNet-S (Gao et al. 2022): the validation sets with 50, 300 and 919 categories.

    ImageNet-S/
      ImageNetS50/                      and ImageNetS300/, ImageNetS919/
        validation/n01443537/ILSVRC2012_val_00000236.JPEG …
        validation-segmentation/n01443537/ILSVRC2012_val_00000236.png …

A label map is an RGB PNG: its category is R + 256 * G, 0 is "other" and 1000 does not count.
Categories are in the order of their WordNet ids, which the shipped vocabularies follow. The ground
truth of the test set, on which the paper's figures were made, is on the benchmark's server only.

Its own scoring rules, `scoring="imagenet-s"` (github.com/LUSSeg/ImageNet-S, `evaluation/`):

- Pixels labelled 1000 are left out of everything, before anything is counted.
- mIoU: over all k + 1 classes, background included, from counts of the whole set. A class that is
  neither annotated nor predicted has IoU 0 and stays in the mean; "standard" leaves it out.
- Image-level accuracy: the share of images whose most frequent predicted category (background
  left out, the lowest label of equals) is in the image's ground truth. Where nothing but
  background is predicted, the image is wrong.
- F-measure: of foreground against background in each image, with beta squared 0.3
  (1.3 * P * R / (0.3 * P + R)), averaged over the images.
- mIoU by object size: each category of an image falls into S, MS, ML or L by its share of the
  image's counted pixels, in percent and rounded up: at most 5, 25, 50, above. For each size, only
  the pixels of those categories and of the annotated background count, and the mean is over the
  classes that are annotated there, background included.

Later versions of these scripts have a mean IoU of boundaries, too, which is not described here.

The reference scores with "standard" rules and shows the network images of at most 1,024 pixels a
side; its label maps keep their size (`datasets/imagenet_s.py`).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from storage.annotations.benchmark import Benchmark, RequiredPath
from storage.annotations.category_names import shipped_names
from storage.annotations.evaluation_set import EvaluationSet
from storage.annotations.label_maps import LabelCoding, labelled_image, paired_files

_IGNORED: Final = 1000
_IMAGES: Final = {50: 752, 300: 4_097, 919: 12_419}


def open_imagenet_s(num_categories: int, folder: Path) -> EvaluationSet:
    """The validation set with 50, 300 or 919 categories; `folder` is its `ImageNetSK`.

    Raises:
        CorpusError: images and label maps don't match.
    """
    name = f"imagenet-s{num_categories}"
    images_folder = folder / "validation"
    coding = LabelCoding(values=red_green_values, num_categories=num_categories, ignored=_IGNORED)
    pairs = paired_files(images_folder, folder / "validation-segmentation", name)
    images = [
        labelled_image(number, str(image.relative_to(images_folder)), image, labels, coding)
        for number, (_, image, labels) in enumerate(pairs, 1)
    ]
    return EvaluationSet(
        name=name, categories=shipped_names(name), images=tuple(images), scoring="imagenet-s"
    )


def red_green_values(image: Image.Image) -> NDArray[Any]:
    """R + 256 * G."""
    if image.mode not in ("RGB", "RGBA"):
        raise ValueError(f"its pixels are {image.mode} and not RGB")
    pixels = np.asarray(image).astype(np.int64)
    return pixels[..., 0] + 256 * pixels[..., 1]


def _benchmark(num_categories: int) -> Benchmark:
    part, images = f"ImageNetS{num_categories}", _IMAGES[num_categories]
    return Benchmark(
        name=f"imagenet-s{num_categories}",
        what=f"ImageNet-S val: {num_categories} categories, semantic, its own scoring",
        folders=(f"ImageNet-S/{part}", f"imagenet-s/{part}", part),
        requires=(
            RequiredPath("validation", files=images),
            RequiredPath("validation-segmentation", files=images),
        ),
        images=images,
        sources=("https://github.com/LUSSeg/ImageNet-S (made from your copy of ImageNet-1k)",),
        reader=partial(open_imagenet_s, num_categories),
    )


IMAGENET_S: Final = tuple(map(_benchmark, _IMAGES))
