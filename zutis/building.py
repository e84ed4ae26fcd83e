"""`zutis.build`: the stages of a build, in this process and without Prefect."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec

from flows.settings.build import BuildSettings
from storage.errors.exceptions import ConfigError
from zutis.dataset import Dataset

P = ParamSpec("P")


def _built_from(make: Callable[P, BuildSettings]) -> Callable[P, Dataset]:
    """A function with the parameters of the settings, which are declared only there."""

    @functools.wraps(make, assigned=("__annotations__",), updated=())
    def build(*args: P.args, **kwargs: P.kwargs) -> Dataset:
        """Build a data set, or find it in the store: nothing is computed twice.

        The keyword arguments are the settings of `BuildSettings`. The stages run in this process,
        one after another; the same settings give the same artifacts as `zutis build`.

        Returns:
            The data set, whose samples are read on access.

        Raises:
            ZutisError: one sentence that says what is wrong, where, and what to do.
        """
        return _build(make(*args, **kwargs))

    return build


build = _built_from(BuildSettings)


def _build(settings: BuildSettings) -> Dataset:
    from flows.execution.executors import LocalExecutor
    from flows.pipelines.build import build as run_stages
    from flows.upkeep.repair import repair_store
    from storage.artifacts.leases import using
    from storage.artifacts.store import ArtifactStore

    if settings.cluster:
        raise ConfigError("runner is ray: zutis.build works in this process, so choose threads.")
    store = ArtifactStore(settings.store)
    with using(store, "build", f"{settings.vocabulary}, from Python"):
        if settings.repair:
            repair_store(store)
        return Dataset.of(run_stages(settings, LocalExecutor(store)).dataset)
