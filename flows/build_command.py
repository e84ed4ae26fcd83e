"""`zutis build`: the flow in this process, or the answer at once if everything is there."""

from __future__ import annotations

import os
import time

from rich.console import Console

from flows.executors import CachedExecutor, NotCached
from flows.pipeline import Build, build
from flows.progress import StageProgress, TerminalWatcher
from flows.settings import BuildSettings
from flows.summary import print_summary, summarise
from storage.artifacts import ArtifactStore


def run(settings: BuildSettings) -> None:
    """Build, and print the summary.

    Raises:
        ZutisError: one sentence, for the user.
    """
    started = time.monotonic()
    console = Console()
    built, reports = _find(settings) or _run_flow(settings, console)
    print_summary(summarise(built, reports), console)
    console.print(f"Finished in {time.monotonic() - started:.1f} s.", highlight=False)


def _find(settings: BuildSettings) -> tuple[Build, list[StageProgress]] | None:
    """A build that is there already, found without Prefect; None if something is to be done.

    Mistakes in the settings come to light here, before a server is started. Where a Prefect server
    is configured the run belongs into its UI, cached or not.
    """
    if settings.repair:
        return None
    executor = CachedExecutor(ArtifactStore(settings.store))
    try:
        built = build(settings, executor)
    except NotCached:
        return None
    return None if _server_is_configured() else (built, executor.reports)


def _server_is_configured() -> bool:
    if os.environ.get("PREFECT_API_URL"):
        return True
    if not _has_prefect_profile():
        return False
    from prefect.settings import PREFECT_API_URL

    return bool(PREFECT_API_URL.value())


def _has_prefect_profile() -> bool:
    """Whether a file could name a server; importing Prefect to ask takes two seconds."""
    from pathlib import Path

    home = Path(os.environ.get("PREFECT_HOME", Path.home() / ".prefect"))
    return any(path.exists() for path in (home / "profiles.toml", Path("prefect.toml")))


def _run_flow(settings: BuildSettings, console: Console) -> tuple[Build, list[StageProgress]]:
    _prepare_prefect()
    console.print("Starting Prefect …", style="dim")
    from flows.build_pseudolabels import run_build

    with TerminalWatcher(console) as watcher:
        return run_build(settings, watcher)


def _prepare_prefect() -> None:
    """Settings of an embedded Prefect, unless the user has chosen others.

    Its log goes to its API; the terminal has our own progress and one line for an error.
    """
    defaults = {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        # A busy machine takes longer than the 20 s that Prefect waits for its own server.
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
