"""Running parts on a Ray cluster, each as one Ray task.

The Prefect task runs stay in the flow's process, where each waits for its part. So a worker needs
this package, the store, the corpus and the weights, but neither Prefect's address nor its
password, and a part whose worker dies is begun again by Ray within the same task run.
(`prefect_ray` moves the task runs themselves to the workers. Without a server that all of them can
reach, every worker process then starts a Prefect server of its own.)
"""

from __future__ import annotations

import importlib
import os
import threading
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from flows.execution.executors import run_stage
from flows.execution.progress import StageProgress
from flows.settings.devices import devices_of
from storage.access.roots import ROOTS_VARIABLE
from storage.artifacts.store import ArtifactRef, ArtifactStore
from storage.errors.exceptions import ConfigError, ZutisError
from tasks.stage.contract import Progress

if TYPE_CHECKING:
    from flows.execution.stage_call import StageCall

# How often Ray restarts a part whose worker or machine has died.
_LIVES = 5
# Parts submitted for each place of the cluster, so that no place waits for the next part, and an
# autoscaling cluster sees demand.
_QUEUED_A_PLACE = 2
_connecting = threading.Lock()


class ClusterError(ZutisError):
    """The Ray cluster has lost a part for good."""


@dataclass(frozen=True)
class _Told:
    """A part's progress, on its way back from the worker."""

    done: int
    rejects: dict[str, int]
    counts: dict[str, int]
    warnings: tuple[str, ...]


def connect(address: str) -> None:
    """Join a running cluster; once a process.

    Args:
        address: `auto` for the cluster that this machine belongs to (or `RAY_ADDRESS`),
            HOST:PORT of its head, or ray://HOST:PORT from a machine outside of it.

    Raises:
        ConfigError: Ray is not installed, or no cluster answers.
    """
    ray = _ray()
    with _connecting:
        if ray.is_initialized():
            return
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except (OSError, RuntimeError, ValueError, ImportError) as error:
            reason = " ".join(str(error).split())[:200].rstrip(".")
            raise ConfigError(
                f"No Ray cluster answers at {address!r} ({reason}): start one with `ray start "
                "--head` on this machine, or name another with --ray-address."
            ) from error


def parts_in_flight(config: Any) -> int:
    """How many parts of a stage to submit at a time.

    Args:
        config: the stage's configuration; its device decides which machines can run it.

    Raises:
        ConfigError: no machine of the cluster can run the stage, which would wait for ever.
    """
    kind = "GPU" if _needs_gpu(config) else "CPU"
    places = int(_ray().cluster_resources().get(kind, 0))
    if places == 0:
        raise ConfigError(
            f"The Ray cluster has no {kind} to run parts on: add a machine with one to it"
            + (", or use --device cpu." if kind == "GPU" else ".")
        )
    return places * _QUEUED_A_PLACE


def run_on_cluster(call: StageCall, progress: Progress | None) -> ArtifactRef | None:
    """Run one part on some worker, and wait for it.

    Args:
        call: the part.
        progress: receives the part's progress when the part has ended.

    Raises:
        ZutisError: the stage's own error.
        ClusterError: its workers died repeatedly.
    """
    connect(call.cluster)
    ray = _ray()
    options: dict[str, Any] = {"name": call.label, "max_retries": _LIVES}
    if _needs_gpu(call.config):
        # Ray ends such a worker after its part: a process that has used a GPU stays on that GPU,
        # even if Ray assigns it another one later.
        options["num_gpus"] = 1
    part = ray.remote(_run_part).options(**options)
    try:
        made, told = ray.get(
            part.remote(
                call.stage, call.config, call.inputs, call.store, call.ref,
                os.environ.get(ROOTS_VARIABLE, ""),
            )
        )  # fmt: skip
    except ray.exceptions.RayTaskError as error:
        raise _cause(error, call) from error
    except ray.exceptions.RayError as error:
        raise ClusterError(
            f"{call.label} was lost with its worker ({_first_line(error)}), after Ray had begun it "
            f"up to {_LIVES + 1} times: look at that machine's memory and Ray's logs, then run "
            "the same command again."
        ) from error
    if progress is not None:
        _pass_on(told, progress)
    return made  # type: ignore[no-any-return]  # Ray's results have no type


def _run_part(
    stage: str, config: Any, inputs: Any, store: str, ref: ArtifactRef | None, allowed: str
) -> tuple[ArtifactRef | None, _Told]:
    """Run one part, on the worker. A part that a worker published before it died is not made again.

    `allowed` are the roots of the flow's process, if it has any: a worker belongs to one job.
    """
    if allowed:
        os.environ[ROOTS_VARIABLE] = allowed
    progress = StageProgress(stage, total=0, parts=1, cached_parts=0)
    artifacts = ArtifactStore(store)
    artifact = artifacts.find(ref) if ref else None
    if artifact is None:
        artifact = run_stage(stage, config, inputs, artifacts, progress)
    if ref and artifact and artifact.ref != ref:
        raise ConfigError(
            f"A worker of the Ray cluster makes {artifact.ref} where {ref} is asked for: install "
            "the same version of zutis on all machines."
        )
    told = _Told(
        progress.done,
        dict(progress.rejects),
        dict(progress.counts),
        tuple(progress.warnings),
    )
    return (artifact.ref if artifact else None), told


def _pass_on(told: _Told, progress: Progress) -> None:
    accepted = told.done - sum(told.rejects.values())
    progress.advance(accepted, rejected="", **told.counts)
    for reason, amount in told.rejects.items():
        progress.advance(amount, rejected=reason)
    for sentence in told.warnings:
        progress.warn(sentence)


def _needs_gpu(config: Any) -> bool:
    """Whether a stage's configuration, or a model in it, names a GPU.

    Raises:
        ConfigError: it names a specific GPU, which only Ray may choose.
    """
    devices = set(devices_of(config))
    if numbered := sorted(device for device in devices if ":" in device):
        raise ConfigError(
            f"device is {numbered[0]!r}, but Ray gives each part its GPU: use --device cuda."
        )
    return "cuda" in devices


def _cause(error: Any, call: StageCall) -> Exception:
    """The worker's error for users, or a RuntimeError that names the part."""
    cause = error.cause
    if isinstance(cause, ZutisError):
        return cause
    return RuntimeError(f"{call.label} failed on its worker: {error}")


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__


@cache
def _ray() -> Any:
    # Under `uv run` Ray would copy the folder that we run in to every machine, and have uv install
    # the project there anew. It reads this once, when it is imported.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ConfigError(
            "--runner ray needs the package ray, which is not installed: install zutis with its "
            "extra ray."
        ) from error
