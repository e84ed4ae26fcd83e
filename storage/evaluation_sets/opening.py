"""Opening evaluation sets, by name or by path.

A spec is one of

    coco2017-val, coco2017-val-stuff, coco20k, coca, imagenet-s50, imagenet-s300, imagenet-s919,
    voc2012-val, cub200, cub200-bird  published sets, below the folder of all data
    coco:FILE.json[@IMAGES]           own data in COCO's format; local or remote
    folder:IMAGES+LABELS[+NAMES]      own images and label maps
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from storage.access.roots import refuse_path
from storage.annotations.benchmark import Benchmark
from storage.annotations.evaluation_set import (
    IGNORE,
    EvaluationImage,
    EvaluationSet,
    InstanceAnnotation,
)
from storage.annotations.label_maps import open_folders
from storage.errors.exceptions import ConfigError
from storage.errors.sentences import nearest
from storage.evaluation_sets.coco import open_coco_json
from storage.evaluation_sets.registry import BENCHMARKS
from storage.files.filesystems import display, is_local, local_uri, refuse_outside
from storage.files.user_files import is_folder

__all__ = [
    "BENCHMARKS",
    "DATA_VARIABLE",
    "IGNORE",
    "Benchmark",
    "EvaluationImage",
    "EvaluationSet",
    "InstanceAnnotation",
    "data_folder",
    "open_evaluation_set",
]

DATA_VARIABLE: Final = "ZUTIS_DATA"


def open_evaluation_set(spec: str, root: Path | None, *, skip_bad: bool = False) -> EvaluationSet:
    """Open a data set to evaluate on; no image is read.

    Args:
        spec: as in the module's docstring.
        root: the folder of all data, for published sets; None for the environment variable
            ZUTIS_DATA.
        skip_bad: leave faulty annotations out and list them; for coco:FILE.json alone.

    Raises:
        ConfigError: the spec is none of these, or there is no folder of data; or it has no
            annotations to skip; or it lies outside the roots.
        CorpusError: the data set is not complete, or annotations and images don't match.
        StorageError: a file system refused.
        VocabularyError: own names can't be used.
    """
    kind, separator, place = spec.partition(":")
    if separator and kind == "coco":
        return _open_coco(place, skip_bad)
    if skip_bad:
        raise ConfigError(
            f"skip_bad is for coco:FILE.json, and the data set is {display(spec)!r}: leave it out."
        )
    if separator and kind == "folder":
        return _open_folders(place)
    if spec not in BENCHMARKS:
        meant = nearest(spec.lower(), BENCHMARKS, cutoff=0.5) or "."
        raise ConfigError(
            f"There is no data set {display(spec)!r} to evaluate on, only {', '.join(BENCHMARKS)},"
            f" coco:FILE.json[@IMAGES] and folder:IMAGES+LABELS[+NAMES]{meant}"
        )
    return BENCHMARKS[spec].open(data_folder(root))


def data_folder(root: Path | None) -> Path:
    """The folder of all data: `root`, or ZUTIS_DATA.

    Raises:
        ConfigError: neither is given, or it is no folder, or lies outside the roots.
    """
    named = os.environ.get(DATA_VARIABLE)
    folder = root if root is not None else Path(named) if named else None
    if folder is None:
        raise ConfigError(
            f"It is not known where the data sets are: give --data DIR, or set {DATA_VARIABLE}."
        )
    refuse_path(folder)
    if not is_folder(folder):
        raise ConfigError(f"The folder of data sets {folder} does not exist.")
    return folder


def _open_coco(place: str, skip_bad: bool) -> EvaluationSet:
    file, separator, images = place.rpartition(".json@")
    file = f"{file}.json" if separator else place
    if not file:
        raise ConfigError("The data set 'coco:' names no file; write coco:FILE.json[@IMAGES].")
    for each in (file, images if separator else file):
        refuse_outside(_uri(each))
    return open_coco_json(_uri(file), _uri(images) if separator else None, skip_bad=skip_bad)


def _open_folders(place: str) -> EvaluationSet:
    for each in filter(None, place.split("+")):
        refuse_path(each)
    match place.split("+"):
        case [images, labels] if images and labels:
            return open_folders(Path(images), Path(labels))
        case [images, labels, names] if images and labels and names:
            return open_folders(Path(images), Path(labels), Path(names))
    raise ConfigError(
        f"The data set 'folder:{display(place)}' is not of the form folder:IMAGES+LABELS[+NAMES]."
    )


def _uri(place: str) -> str:
    return local_uri(place) if is_local(place) else place
