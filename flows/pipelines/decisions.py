"""The wiring of decisions: what people decided about a build's labels."""

from __future__ import annotations

from dataclasses import dataclass

from flows.execution.executors import Executor
from flows.settings.build import BuildSettings
from storage.artifacts.store import Artifact, ArtifactRef
from storage.decisions.decision_file import read_decisions
from storage.decisions.outcomes import Outcomes, outcomes_of
from storage.files.filesystems import is_local, local_path, local_uri
from storage.files.user_files import user_path
from storage.vocabularies.vocabulary import Vocabulary
from tasks.deciding import import_decisions


@dataclass(frozen=True)
class Given:
    """A file of decisions.

    Attributes:
        place: its path or URI.
        outcomes: what its decisions come to.
    """

    place: str
    outcomes: Outcomes


@dataclass(frozen=True)
class Decided:
    """What decisions mean for a build.

    Attributes:
        artifact: of `import_decisions`; None where none is about an image of the build.
        decisions: in the file; overruled: of these by later ones.
        elsewhere: those that hold and are about images that the build has not retrieved.
    """

    artifact: Artifact | None
    decisions: int
    overruled: int
    elsewhere: int

    @property
    def ref(self) -> ArtifactRef | None:
        return self.artifact.ref if self.artifact else None


def check_decisions(settings: BuildSettings) -> Given | None:
    """Read the file of `--decisions`; None without one.

    Raises:
        CorpusError: a line is no decision.
        StorageError: it can't be read.
    """
    if not settings.decisions:
        return None
    spec = settings.decisions
    place = local_uri(str(user_path(local_path(spec)))) if is_local(spec) else spec
    return Given(place, outcomes_of(read_decisions(place)))


def find_decided(
    given: Given | None,
    vocabulary: Vocabulary,
    retrieval: Artifact,
    masks: tuple[ArtifactRef, ...],
    named: Artifact | None,
    executor: Executor,
) -> Decided | None:
    """Join decisions with the labels of a build; None where none are given.

    Args:
        given: of `check_decisions`.
        retrieval, masks: of the build; named: of `name_objects`, with several objects an image.
    """
    if given is None:
        return None
    here = import_decisions.relevant(given.outcomes, retrieval.ref, executor.store)
    lines, overruled = given.outcomes.decisions, given.outcomes.overruled
    elsewhere = lines - overruled - here.decisions
    if not here.decisions:
        return Decided(None, lines, overruled, elsewhere)
    artifact = executor.one(
        import_decisions.NAME,
        import_decisions.Config(decisions=given.place, digest=here.digest),
        import_decisions.Inputs(
            retrieval.ref,
            masks,
            tuple(category.name for category in vocabulary.categories),
            named.ref if named else None,
        ),
    )
    return Decided(artifact, lines, overruled, elsewhere)
