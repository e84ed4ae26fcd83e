"""Segmentation training sets and models from unlabelled images and a list of categories.

    import zutis

    dataset = zutis.build(corpus=("photos",), vocabulary="coco")   # or zutis.open_dataset(…)
    sample = dataset[0]                      # sample.image, sample.labels, sample.facts
    segmenter = zutis.segmenter("coco_vit_b_16", ["zebra", "red kite"])
    result = segmenter.segment(sample.image)                # result.labels, result.instances

Errors that a user can fix are `ZutisError`s of one sentence. Importing this package loads neither
torch nor Prefect.
"""

from flows.settings.build import BuildSettings
from storage.errors.exceptions import ZutisError
from zutis.building import build
from zutis.dataset import Dataset, Sample, open_dataset
from zutis.segmenting import segmenter

__all__ = [
    "BuildSettings",
    "Dataset",
    "Sample",
    "ZutisError",
    "build",
    "open_dataset",
    "segmenter",
]
