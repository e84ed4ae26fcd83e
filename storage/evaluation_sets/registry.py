"""The published data sets that can be evaluated on, by name."""

from __future__ import annotations

from typing import Final

from storage.annotations.benchmark import Benchmark
from storage.evaluation_sets.coca import COCA
from storage.evaluation_sets.coco import COCO2017_VAL
from storage.evaluation_sets.coco20k import COCO20K
from storage.evaluation_sets.coco_stuff import COCO2017_VAL_STUFF
from storage.evaluation_sets.cub import CUB200
from storage.evaluation_sets.imagenet_s import IMAGENET_S
from storage.evaluation_sets.voc import VOC2012_VAL

BENCHMARKS: Final[dict[str, Benchmark]] = {
    benchmark.name: benchmark
    for benchmark in (
        COCO2017_VAL,
        COCO2017_VAL_STUFF,
        COCO20K,
        COCA,
        *IMAGENET_S,
        VOC2012_VAL,
        *CUB200,
    )
}
