"""`zutis serve`: the flows as Prefect deployments, with a server if none answers."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from flows.commands.options import command_of
from flows.processes import interruption
from flows.settings.service import ServeOptions
from storage.access.roots import ROOTS_VARIABLE, as_setting, roots
from storage.errors.exceptions import ConfigError
from storage.errors.numbers import check_named_numbers
from tasks.stage import stopping

if TYPE_CHECKING:
    from flows.prefect_server.served import Address


@command_of(ServeOptions, takes_values=True)
def serve_command(options: ServeOptions, values: Mapping[str, Any]) -> None:
    """Serve the flows as Prefect deployments, with a server and its UI if none answers.

    Runs start in this folder: relative paths of their parameters are taken from here.
    """
    run(
        host=options.host,
        port=options.port,
        limit=options.max_runs,
        defaults=values,
        allowed=options.root,
    )


def run(
    *,
    host: str | None,
    port: int | None,
    limit: int,
    defaults: Mapping[str, Any],
    allowed: Sequence[str] = (),
) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Args:
        host: where a server is to listen; None for Prefect's own setting, or loopback.
        port: likewise.
        limit: runs at a time.
        defaults: parameters of build-pseudolabels that a run need not name.
        allowed: the only folders and addresses that runs may read and write; if empty, those of
            `ZUTIS_ROOTS`, or any where that is not set.

    Raises:
        ZutisError: one sentence, for the user.
    """
    check_named_numbers({"limit": limit})
    if allowed:
        os.environ[ROOTS_VARIABLE] = as_setting(allowed)  # for the runs, which are our children
    roots()  # raises where the variable is no list, before anything is started
    _prepare_settings()
    from flows.prefect_server.home import prefect_home
    from flows.prefect_server.served import running_server
    from flows.service.notice import notice

    console = Console()
    address = _choose_address(host, port)
    _use(address)
    log = prefect_home() / "zutis-server.log"
    with _until_told_to_stop():
        console.print("Looking for a Prefect server …", style="dim")
        with running_server(address, log) as started, notice(address.api_url):
            _serve(address, log if started else None, limit, defaults, console)
    console.print("Stopped. Runs that were in progress can be retried; what they finished is kept.")


def _serve(
    address: Address, log: Path | None, limit: int, defaults: Mapping[str, Any], console: Console
) -> None:
    from flows.processes.attached import announce_to_children
    from flows.service.deployments import (
        install_automation,
        make_deployments,
        make_runner,
        run_until_stopped,
    )

    runner = make_runner(limit)
    _check_access()
    for deployment in make_deployments(defaults):
        runner.add_deployment(deployment)
    install_automation()
    announce_to_children()
    _tell(address, log, limit, defaults, console)
    run_until_stopped(runner)


def _prepare_settings() -> None:
    """Prepare Prefect as other commands do, with the runs' log on the terminal as well."""
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "INFO")
    from flows.prefect_server.settings import prepare_prefect

    prepare_prefect()


def _choose_address(host: str | None, port: int | None) -> Address:
    from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_API_AUTH_STRING

    from flows.prefect_server.served import choose_address

    address = choose_address(host, port, PREFECT_API_URL.value())
    protected = bool(PREFECT_SERVER_API_AUTH_STRING.value())
    if address.host and not address.is_loopback and not protected:
        raise ConfigError(
            f"host is {address.host}, where others can reach the server, and whoever does can run "
            "code here: set PREFECT_SERVER_API_AUTH_STRING=USER:PASSWORD first."
        )
    return address


def _use(address: Address) -> None:
    """Point Prefect in this process and its children to the server, with the one password."""
    from prefect.context import refresh_global_settings_context
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_SERVER_API_AUTH_STRING

    os.environ["PREFECT_API_URL"] = address.api_url
    passwords = {
        "PREFECT_API_AUTH_STRING": PREFECT_API_AUTH_STRING.value(),
        "PREFECT_SERVER_API_AUTH_STRING": PREFECT_SERVER_API_AUTH_STRING.value(),
    }
    known = next(filter(None, passwords.values()), None)
    for name, password in passwords.items():
        if known and not password:
            os.environ[name] = known
    refresh_global_settings_context()


def _check_access() -> None:
    """Send the server a request that needs the password.

    Raises:
        PrefectHTTPStatusError: the password is wrong or missing; the command line turns this into
            a sentence.
    """
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        client.api_version()


@contextlib.contextmanager
def _until_told_to_stop() -> Iterator[None]:
    """SIGTERM and Ctrl-C both end the block without an error, in every phase.

    The server has time to stop; a second Ctrl-C ends everything at once.
    """
    interruption.listen()  # also when called from Python: our child processes must end
    try:
        with stopping.finishing():
            yield
    except (KeyboardInterrupt, SystemExit) as end:
        if isinstance(end, SystemExit) and end.code:
            raise


def _tell(
    address: Address, log: Path | None, limit: int, defaults: Mapping[str, Any], console: Console
) -> None:
    whose = f"started here, its log is {log}" if log else "it was running already"
    runs = "run" if limit == 1 else "runs"
    missing = [name for name in ("corpus", "vocabulary") if name not in defaults]
    values = {"corpus": "FOLDER", "vocabulary": "coco"}
    parameters = "".join(f" --param {name}={values[name]}" for name in missing)
    lines = [
        f"[bold]Prefect[/]      {address.ui_url} ({whose})",
        "[bold]Deployments[/]  build-pseudolabels, train-zutis, evaluate-zutis; at most "
        f"{limit} {runs} at a time, in {Path.cwd()}",
        f"[bold]Run form[/]     {address.ui_url}/deployments",
        f"[bold]Roots[/]        {_roots()}",
        "",
        "In another terminal:",
        "",
        f"  export PREFECT_API_URL={address.api_url}",
        f"  {_prefect()} deployment run build-pseudolabels/build-pseudolabels{parameters}",
        "",
        "Ctrl-C stops all of it.",
    ]
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
    sys.stdout.flush()


def _roots() -> str:
    from rich.markup import escape

    allowed = roots()
    if allowed is None:
        return "none: runs read and write whatever this user may (see --root)"
    return f"runs read and write under {escape(', '.join(allowed))} alone"


def _prefect() -> str:
    """Prefect's command in a form that works where ours was typed."""
    started_by_uv = os.environ.get("UV")
    return "uv run prefect" if started_by_uv else "prefect"
