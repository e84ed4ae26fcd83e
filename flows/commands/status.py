"""`zutis status`: running and crashed builds, the latest results, disk use.

Nearly everything comes from one listing of the store. Prefect is queried only if a server answers.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.commands.options import command_of
from flows.prefect_server.settings import server_is_configured
from flows.service.notice import read_notice
from flows.settings.shared import StoreOptions
from flows.terminal.key_tables import add_whole_column, print_whole
from flows.upkeep.find_artifacts import counts_line
from storage.artifacts.inventory import Holding, read_manifests, take_inventory, total_size
from storage.artifacts.leases import HEARTBEAT_SECONDS, Lease, leases
from storage.artifacts.store import Artifact, ArtifactStore
from storage.files.filesystems import display, is_local
from tasks.training import state as training_state

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

_FLOWS = ["build-pseudolabels", "train-zutis", "evaluate-zutis"]
_STATES = ["PENDING", "RUNNING", "CANCELLING", "CRASHED", "FAILED"]
_MOST_RUNS = 10
_MOST_ARTIFACTS = 5
_LATEST = {"record_build": "Latest builds", "train": "Latest trainings",
           "evaluate": "Latest evaluations"}  # fmt: skip


@command_of(StoreOptions)
def status_command(options: StoreOptions) -> None:
    """Show running and crashed builds, disk use by stage, and the latest of everything.

    Takes seconds, whatever is running; changes nothing.
    """
    artifacts = ArtifactStore(options.store)
    console = Console()
    announced = leases(artifacts)
    holdings = take_inventory(artifacts)
    _print_runs(console, announced)
    _print_prefect(console)
    if not holdings:
        console.print(f"No artifact in {display(artifacts.root)}.", markup=False, highlight=False)
        return
    _print_interrupted_trainings(console, holdings)
    console.print(_disk_use(holdings))
    _print_totals(console, artifacts, holdings)
    for stage, title in _LATEST.items():
        latest = _latest(artifacts, holdings, stage)
        if latest:
            print_whole(console, _artifact_table(title, latest))


def state_of(lease: Lease) -> str:
    """`running`, `silent` for a while, or `crashed`."""
    if not lease.alive:
        return "crashed"
    return "running" if lease.age < 3 * HEARTBEAT_SECONDS else "silent"


def _print_runs(console: Console, announced: Sequence[Lease]) -> None:
    if not announced:
        console.print("No run is announced in the store.")
        return
    table = _table("Runs, by what they say in the store", "state", "run", "what", "where",
                   "started", "heard of")  # fmt: skip
    for lease in announced:
        where = escape(f"{lease.host} {lease.pid}")
        table.add_row(state_of(lease), lease.what, escape(lease.title), where, lease.started,
                      _ago(lease.age))  # fmt: skip
    console.print(table)
    if any(not lease.alive for lease in announced):
        console.print("What a crashed run had finished is kept; the same command goes on.")


def _print_prefect(console: Console) -> None:
    configured = server_is_configured()
    api = _configured_api() if configured else read_notice()
    if api is None or not _answers(api):
        where = (
            f" at {display(api or '')}, which PREFECT_API_URL or a profile names"
            if configured
            else ""
        )
        console.print(f"No Prefect server answers{where}.", style="yellow" if where else "dim",
                      markup=False, highlight=False, soft_wrap=True)  # fmt: skip
        return
    try:
        runs = _flow_runs(api)
    except Exception as error:
        # Any error of the server: the part of the status that comes from the store is still true.
        console.print(f"The Prefect server at {display(api)} refused: {_first_line(error)}",
                      style="yellow", markup=False)  # fmt: skip
        return
    if not runs:
        console.print(f"Prefect at {display(api)}: no run is active or has failed.", markup=False)
        return
    table = _table(f"Runs, by Prefect at {display(api)}", "state", "run", "started", "message")
    for run in runs:
        state = run.state
        table.add_row(state.name if state else "", escape(run.name), _when(run.start_time),
                      escape(((state.message if state else "") or "")[:80]))  # fmt: skip
    console.print(table)


def _answers(api: str) -> bool:
    """Whether a Prefect server is there and well."""
    import httpx

    try:
        answer = httpx.get(f"{api.rstrip('/')}/health", timeout=2.0)
    except Exception:  # addresses of servers and proxies can be wrong in many ways
        return False
    return answer.is_success and answer.text.strip() == "true"


def _configured_api() -> str:
    from prefect.settings import PREFECT_API_URL

    return str(PREFECT_API_URL.value())


def _flow_runs(api: str) -> list[FlowRun]:
    """Runs of our flows that are active or have not ended well, the latest first."""
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.filters import FlowFilter, FlowRunFilter
    from prefect.client.schemas.sorting import FlowRunSort
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY

    auth, key = PREFECT_API_AUTH_STRING.value(), PREFECT_API_KEY.value()
    with SyncPrefectClient(
        api,
        auth_string=auth.get_secret_value() if auth else None,
        api_key=key.get_secret_value() if key else None,
    ) as client:
        return client.read_flow_runs(
            flow_filter=FlowFilter.model_validate({"name": {"any_": _FLOWS}}),
            flow_run_filter=FlowRunFilter.model_validate({"state": {"type": {"any_": _STATES}}}),
            sort=FlowRunSort.START_TIME_DESC,
            limit=_MOST_RUNS,
        )


def _print_interrupted_trainings(console: Console, holdings: Iterable[Holding]) -> None:
    for holding in holdings:
        state = holding.children.get(training_state.FOLDER)
        if state is not None and holding.published is None:
            age = _ago(_now() - state.newest)
            console.print(
                f"Training {holding.ref.key} has not ended; its state of {age} takes "
                f"{_megabytes(state.size)} MB.", markup=False, highlight=False, soft_wrap=True
            )  # fmt: skip


def _disk_use(holdings: Sequence[Holding]) -> Table:
    table = _table("Disk use", "stage", "artifacts", "MB", "unfinished", "of them MB")
    stages: dict[str, list[Holding]] = {}
    for holding in holdings:
        stages.setdefault(holding.ref.stage, []).append(holding)
    for stage, members in stages.items():
        unfinished = [h for h in members if h.published is None]
        lost = total_size(stored for h in unfinished for stored in h.stored)
        size = total_size(stored for h in members for stored in h.stored)
        table.add_row(stage, f"{len(members) - len(unfinished):,}", _megabytes(size),
                      f"{len(unfinished):,}" if unfinished else "",
                      _megabytes(lost) if unfinished else "")  # fmt: skip
    return table


def _print_totals(console: Console, store: ArtifactStore, holdings: Sequence[Holding]) -> None:
    size = total_size(stored for holding in holdings for stored in holding.stored)
    free = ""
    if is_local(store.root):
        free = f", {_megabytes(shutil.disk_usage(store.root).free)} MB free"
    console.print(
        f"{display(store.root)}: {_megabytes(size)} MB, files that several artifacts share counted "
        f"once{free}.", markup=False, highlight=False, soft_wrap=True
    )  # fmt: skip


def _latest(store: ArtifactStore, holdings: Iterable[Holding], stage: str) -> list[Artifact]:
    members = [h for h in holdings if h.ref.stage == stage and h.published is not None]
    members.sort(key=lambda holding: (holding.published or 0.0, holding.ref.key), reverse=True)
    return read_manifests(store, [holding.ref for holding in members[:_MOST_ARTIFACTS]])


def _artifact_table(title: str, artifacts: Sequence[Artifact]) -> Table:
    table = Table(title=title, title_justify="left")
    add_whole_column(table, "key")
    for column in ("created", "of", "counts"):
        table.add_column(column)
    for artifact in artifacts:
        manifest = artifact.manifest
        of = manifest["config"].get("vocabulary") or _named(artifact)
        table.add_row(artifact.key, manifest["created"], escape(of), escape(counts_line(artifact)))
    return table


def _named(artifact: Artifact) -> str:
    notes = artifact.notes
    return str(notes.get("evaluation_set") or notes.get("clip") or "")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    numbers = {"artifacts", "MB", "unfinished", "of them MB"}
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left")
    return table


def _ago(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 7200 else f"{seconds / 3600:.0f} h ago"


def _when(time: datetime | None) -> str:
    return time.astimezone(UTC).isoformat(timespec="seconds") if time else ""


def _now() -> float:
    return datetime.now(UTC).timestamp()


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.1f}"


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
