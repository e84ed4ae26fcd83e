"""Category splits of the literature: categories left out of training, evaluated as unseen.

coco-65-15    15 of COCO's 80: Rahman et al., "Improved Visual-Semantic Alignment for Zero-Shot
              Object Detection" (AAAI 2020); for masks Zheng et al., "Zero-Shot Instance
              Segmentation" (CVPR 2021)
voc2012-15-5  5 of PASCAL VOC's 20: Xian et al., "Semantic Projection Network for Zero- and
              Few-Label Semantic Segmentation" (CVPR 2019)
"""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import Final

SPLITS: Final = MappingProxyType(
    {
        "coco-65-15": (
            "airplane", "train", "parking meter", "cat", "bear", "suitcase", "frisbee", "snowboard",
            "fork", "sandwich", "hot dog", "toilet", "mouse", "toaster", "hair drier",
        ),
        "voc2012-15-5": ("potted plant", "sheep", "sofa", "train", "tv/monitor"),
    }
)  # fmt: skip


def expand_names(names: Iterable[str]) -> tuple[str, ...]:
    """Names of categories, with each split's name replaced by its categories."""
    return tuple(name for item in names for name in SPLITS.get(item, (item,)))
