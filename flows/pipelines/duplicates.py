"""The wiring of near-duplicates and leaks: sets to keep out, comparisons, the choice by them."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import cast

from flows.execution.executors import Executor
from flows.pipelines.embedding import embed_parts, parts_of
from flows.settings.build import BuildSettings
from storage.artifacts.store import Artifact, ArtifactRef
from storage.corpora.corpus import Source, open_sources
from storage.corpora.duplicate_groups import read_groups
from storage.errors.exceptions import ConfigError, CorpusError
from storage.errors.reject_reasons import TRANSIENT
from storage.errors.sentences import counted_kinds
from storage.files.filesystems import display, is_local, local_path, local_uri
from storage.files.user_files import user_path
from tasks.duplicates import find_duplicates, find_leaks, import_duplicates
from tasks.indexing import build_index, embed_images, scan
from tasks.quality import choose_labels


@dataclass(frozen=True)
class KeepOutSet:
    """A set to keep out: its name, and where its images are."""

    name: str
    sources: tuple[Source, ...]


@dataclass(frozen=True)
class Comparisons:
    """What a build's images are compared with.

    Attributes:
        keep_out: sets to keep out.
        drops: whether they are compared with each other.
        groups: of a file, in place of this; None without one.
    """

    keep_out: tuple[KeepOutSet, ...] = ()
    drops: bool = False
    groups: import_duplicates.Config | None = None


@dataclass(frozen=True)
class IndexedSet:
    """A set to keep out: its index, and all artifacts that this is made from."""

    keep_out: find_leaks.KeepOut
    inputs: tuple[ArtifactRef, ...]


@dataclass(frozen=True)
class Compared:
    """What the comparisons found.

    Attributes:
        duplicates: of `find_duplicates` or `import_duplicates`; leaks: of `find_leaks`.
        inputs: both, and what they are made from, index and retrieval of the build apart.
    """

    duplicates: ArtifactRef | None = None
    leaks: ArtifactRef | None = None
    inputs: tuple[ArtifactRef, ...] = ()

    @property
    def anything(self) -> bool:
        """Whether anything was compared."""
        return self.duplicates is not None or self.leaks is not None


def check_comparisons(settings: BuildSettings, corpus: Sequence[Source]) -> Comparisons:
    """Read the list of groups and find the sets to keep out.

    Args:
        corpus: the sources of the corpus.

    Raises:
        ConfigError: a set is the corpus itself.
        CorpusError: a set or the list is not there, or is none.
        StorageError: one can't be read.
    """
    groups = None
    if settings.duplicate_groups:
        place = _absolute(settings.duplicate_groups)
        groups = import_duplicates.Config(groups=place, digest=read_groups(place).digest)
    return Comparisons(_sets(settings.keep_out, corpus), settings.drops_duplicates, groups)


def scan_sets(
    sets: Sequence[KeepOutSet], part_images: int, executor: Executor
) -> list[list[Artifact]]:
    """The plans of each set.

    Raises:
        CorpusError: a set has no images.
    """
    return [_scan(each, part_images, executor) for each in sets]


def index_sets(
    sets: Sequence[KeepOutSet],
    plans: Sequence[Sequence[Artifact]],
    config: embed_images.Config,
    bit_depth: int,
    executor: Executor,
) -> list[IndexedSet]:
    """Embed and index each set as the corpus is, with all of its images that can be read.

    Args:
        plans: of `scan_sets`.
        config: of the corpus's embedding; bit_depth: as of `embed_parts`.

    Raises:
        CorpusError: no image of a set can be used.
    """
    config = replace(config, unusual_images="convert")
    return [
        _index(each, of_one, config, bit_depth, executor)
        for each, of_one in zip(sets, plans, strict=True)
    ]


def compare_images(
    comparisons: Comparisons,
    sets: Sequence[IndexedSet],
    index: Artifact,
    retrieval: Artifact,
    device: str,
    executor: Executor,
) -> Compared:
    """Compare the retrieved images with the sets to keep out, and with each other.

    Raises:
        ConfigError: a set has all images.
        CorpusError: a list of groups names no image of the corpus.
    """
    inputs = [ref for each in sets for ref in each.inputs]
    leaks = duplicates = None
    if sets:
        leaks = executor.one(
            find_leaks.NAME,
            find_leaks.Config(device=device),
            find_leaks.Inputs(index.ref, retrieval.ref, tuple(each.keep_out for each in sets)),
        ).ref
        inputs.append(leaks)
    if comparisons.groups:
        duplicates = executor.one(
            import_duplicates.NAME,
            comparisons.groups,
            import_duplicates.Inputs(index.ref, retrieval.ref),
        ).ref
    elif comparisons.drops:
        duplicates = executor.one(
            find_duplicates.NAME,
            find_duplicates.Config(device=device),
            find_duplicates.Inputs(index.ref, retrieval.ref),
        ).ref
    return Compared(duplicates, leaks, (*inputs, *([duplicates] if duplicates else [])))


def choose_unjudged(
    compared: Compared,
    retrieval: Artifact,
    masks: tuple[ArtifactRef, ...],
    executor: Executor,
    named: Artifact | None = None,
    decided: ArtifactRef | None = None,
) -> Artifact | None:
    """The choice among labels without a quality, the retrieval's or those of named objects; None
    where nothing was compared, nor decided by people.

    Raises:
        CorpusError: no label is left.
    """
    if not compared.anything and decided is None:
        return None
    return executor.one(
        choose_labels.NAME,
        choose_labels.Config(),
        choose_labels.Inputs(
            named.ref if named else retrieval.ref,
            masks,
            compared.duplicates,
            compared.leaks,
            decided,
        ),
    )


def _sets(specs: Sequence[str], corpus: Sequence[Source]) -> tuple[KeepOutSet, ...]:
    """The sets, each once, in an order that does not depend on that of their names."""
    opened: dict[tuple[tuple[str, ...], ...], tuple[str, tuple[Source, ...]]] = {}
    for spec in specs:
        sources = _open(spec)
        places = tuple(source.uris for source in sources)
        if {source.uris for source in corpus} <= set(places):
            raise ConfigError(
                f"--keep-out {display(spec)} is the corpus itself, so that nothing would be left: "
                "name an evaluation set."
            )
        opened.setdefault(places, (spec, sources))
    found = [opened[places] for places in sorted(opened)]
    names = short_names([spec for spec, _ in found])
    return tuple(KeepOutSet(name, sources) for name, (_, sources) in zip(names, found, strict=True))


def _open(spec: str) -> tuple[Source, ...]:
    try:
        return tuple(open_sources([spec]))
    except CorpusError as error:
        raise _unusable(spec, error) from error


def _unusable(name: str, error: CorpusError) -> CorpusError:
    # What is said of a corpus holds for a set, but for the option that names it.
    why = str(error).replace("--corpus", "--keep-out")
    return CorpusError(f"--keep-out {display(name)} can't be used: {why[:1].lower()}{why[1:]}")


def short_names(specs: Sequence[str]) -> list[str]:
    """What sets are called, in the data set's card too: addresses as they are, and of local paths,
    which are nobody else's business, no more than tells them apart.

    Args:
        specs: different paths and URIs; a path may have wildcards, and is then called from the
            folder before them on.
    """
    parts = [PurePath(_absolute(spec)).parts if is_local(spec) else (spec,) for spec in specs]
    names: list[str] = []
    for length in range(1, max(map(len, parts), default=0) + 1):
        names = [_end(of_one, length) for of_one in parts]
        if len(set(names)) == len(names):
            break
    return names


def _end(parts: Sequence[str], length: int) -> str:
    """The last parts of a path, of which those from a wildcard on are not counted."""
    magic = [number for number, part in enumerate(parts) if glob.has_magic(part)]
    end = min(magic, default=len(parts))
    return "/".join(parts[max(0, end - length) :])


def _absolute(spec: str) -> str:
    return local_uri(str(user_path(local_path(spec)))) if is_local(spec) else spec


def _scan(keep_out: KeepOutSet, part_images: int, executor: Executor) -> list[Artifact]:
    configs = [
        scan.Config(source=scan.source_name(source), part_images=part_images)
        for source in keep_out.sources
    ]
    try:
        plans = [executor.look(scan.NAME, config, scan.Inputs()) for config in configs]
    except CorpusError as error:
        raise _unusable(keep_out.name, error) from error
    return cast(list[Artifact], plans)


def _index(
    keep_out: KeepOutSet,
    plans: Sequence[Artifact],
    config: embed_images.Config,
    bit_depth: int,
    executor: Executor,
) -> IndexedSet:
    parts, sizes = parts_of(plans)
    embedded, continued = embed_parts(config, bit_depth, parts, sizes, executor)
    _check_usable(keep_out, embedded)
    inputs = tuple(
        build_index.EmbeddedPart(part.plan, part.part, artifact.ref)
        for part, artifact in zip(parts, embedded, strict=True)
    )
    index = executor.one(build_index.NAME, build_index.Config(), build_index.Inputs(inputs))
    made = (*(plan.ref for plan in plans), *(part.ref for part in embedded), *continued, index.ref)
    return IndexedSet(find_leaks.KeepOut(keep_out.name, index.ref), made)


def _check_usable(keep_out: KeepOutSet, embedded: Sequence[Artifact]) -> None:
    if any(part.counts["images"] for part in embedded):
        return
    rejects = sum((Counter(part.counts["rejects"]) for part in embedded), Counter[str]())
    advice = "name an evaluation set with images"
    if TRANSIENT & rejects.keys():
        advice = "run the same command again once the web server sends them"
    why = f" ({counted_kinds(rejects)})" if rejects else ""
    raise CorpusError(
        f"No image of --keep-out {display(keep_out.name)} can be used{why}: {advice}."
    )
