"""Category ids in COCO files of predictions: those of an annotation file, found by name."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from storage.corpora.coco import category_numbers
from storage.errors.sentences import listed
from storage.files.filesystems import display

_NAMED = 5


@dataclass(frozen=True)
class CategoryNumbers:
    """Ids of categories.

    Attributes:
        ids: of each of the categories, in their order; empty: the labels, 1..k.
        sentence: for users, where the ids are from.
    """

    ids: tuple[int, ...]
    sentence: str


def numbers_by_name(names: Sequence[str], files: Sequence[str]) -> CategoryNumbers:
    """The ids that annotation files have for names; in them, upper and lower case are the same.

    A name that they lack, or where name or id are there twice, has an id above all of theirs: its
    predictions are of no category there. If they lack all, or contradict each other, the ids are
    the labels.

    Args:
        names: of the categories.
        files: paths or URIs of COCO files.

    Raises:
        CorpusError: a file is not valid JSON.
        StorageError: a file can't be read.
    """
    label = " and ".join(map(display, files))
    several = [category_numbers(file) for file in files]
    if any(sorted(each) != sorted(several[0]) for each in several):
        return CategoryNumbers((), f"{label} number their categories differently: they are 1, 2 …")
    return _numbered(names, several[0] if several else [], label)


def _numbered(
    names: Sequence[str], pairs: Sequence[tuple[str, int]], label: str
) -> CategoryNumbers:
    times = Counter(word for pair in pairs for word in pair)
    known = {name: own_id for name, own_id in pairs if times[name] == times[own_id] == 1}
    folded: dict[str, int] = {}
    for name, own_id in known.items():
        folded.setdefault(name.casefold(), own_id)
    found = [known.get(name, folded.get(name.casefold())) for name in names]
    given = [own_id for own_id in found if own_id is not None]
    if not given or len(set(given)) < len(given):
        return CategoryNumbers((), f"{label} has none of these categories: their ids are 1, 2 …")
    following = itertools.count(max(own_id for _, own_id in pairs) + 1)
    ids = tuple(next(following) if own_id is None else own_id for own_id in found)
    lacking = [name for name, own_id in zip(names, found, strict=True) if own_id is None]
    sentence = f"Category ids are those of {label}"
    if lacking:
        sentence += f", which lacks {listed(lacking, _NAMED)}"
    return CategoryNumbers(ids, f"{sentence}.")
