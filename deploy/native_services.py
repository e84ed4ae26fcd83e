"""The services of docker-compose.yml as local processes: no containers, the same commands.

Command, environment and health check of a service are taken from the file as Docker Compose itself
reads it. Only what a container changes is translated: host names and ports become free ports of
loopback, mounted places become folders below one temporary folder.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]

# From our own environment a service gets these and no others, so that no setting leaks into it.
_KEPT = ("PATH", "LANG", "TMPDIR", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
# Two workers use it, each in a container of its own.
_HEALTH_PORT = 8080
_PORTS = re.compile(r"\b(5432|6379|4200|8080|8333|8888|9333|9340)\b")
_HOSTS = re.compile(r"\b(postgres|redis|server|s3)(?=:\d)")
# SeaweedFS listens for its own calls at 10,000 above each of its ports.
_HIGHEST_PORT = 65_535 - 10_000
# For machines that do other things, too: on an idle one nothing takes more than 40 s.
_PATIENCE_SECONDS = 600.0
_STOP_SECONDS = 120.0


class Failure(Exception):  # noqa: N818 - a failed trial, not a defect of this script
    """A service failed; one sentence."""


def read_compose(command: Sequence[str], env_file: Path) -> dict[str, Any]:
    """docker-compose.yml with all profiles, as Docker Compose reads it.

    Args:
        command: `docker compose` or `docker-compose`.
        env_file: with the variables that the file asks for.

    Raises:
        Failure: Compose refuses the file.
    """
    options = ["--project-directory", str(REPOSITORY), "--env-file", str(env_file)]
    read = subprocess.run(  # noqa: S603 - no shell, our own arguments
        [*command, *options, "--profile", "*", "config", "--format", "json"],
        capture_output=True,
        text=True,
        check=False,
    )
    if read.returncode:
        raise Failure(f"docker compose config refuses docker-compose.yml: {read.stderr.strip()}")
    document: dict[str, Any] = json.loads(read.stdout)
    return document


class NativeServices:
    """Processes of one compose file.

    Args:
        compose: the result of `read_compose`.
        folder: where data, logs and homes go.
    """

    def __init__(self, compose: Mapping[str, Any], folder: Path) -> None:
        self._services: Mapping[str, Any] = compose["services"]
        self._configs: Mapping[str, Any] = compose.get("configs", {})
        self._folder = folder
        self._ports: dict[tuple[str, int], int] = {}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._app = folder / "app"  # the image's content, and no package beside it
        shutil.copytree(REPOSITORY / "deploy", self._app / "deploy")
        shutil.copy(REPOSITORY / "prefect.yaml", self._app)

    def port(self, number: int, service: str = "") -> int:
        """The port of this machine that stands for one of the file's."""
        key = (service if number == _HEALTH_PORT else "", number)
        if key not in self._ports:
            self._ports[key] = _free_port(taken=set(self._ports.values()))
        return self._ports[key]

    def place(self, service: str, target: str) -> Path:
        """The folder that stands for a mounted place of a container."""
        return self._places(service)[target]

    def start(self, service: str, seconds: float = _PATIENCE_SECONDS) -> float:
        """Start a service and wait until its health check passes.

        Returns:
            Seconds that it took.

        Raises:
            Failure: it ended, or was not healthy in time.
        """
        started = time.monotonic()
        process = self._popen(service, self._command(service))
        self._running[service] = process
        while time.monotonic() - started < seconds:
            if process.poll() is not None:
                raise Failure(f"{service} ended with exit code {process.returncode}.")
            if self.is_healthy(service):
                return time.monotonic() - started
            time.sleep(1.0)
        raise Failure(f"{service} was not healthy within {seconds:.0f} s.")

    def is_healthy(self, service: str) -> bool:
        """Run the service's health check once."""
        kind, *check = self._services[service]["healthcheck"]["test"]
        assert kind == "CMD", f"the health check of {service} is no list of arguments"
        native = [self._native(service, word) for word in check]
        return self._popen(service, native, log="health").wait(_STOP_SECONDS) == 0

    def run(
        self, service: str, command: Sequence[str] | None = None, seconds: float = _PATIENCE_SECONDS
    ) -> float:
        """Run a job to its end: a service's own command, or another in its environment.

        Returns:
            Seconds that it took.

        Raises:
            Failure: it did not end well, or not in time.
        """
        started = time.monotonic()
        job = list(command) if command is not None else self._command(service)
        process = self._popen(service, job)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            _end(process)
            raise Failure(f"{service}: {job[0]} did not end within {seconds:.0f} s.") from None
        if code:
            raise Failure(f"{service}: {' '.join(job[:4])} … ended with exit code {code}.")
        return time.monotonic() - started

    def stop(self, service: str) -> float:
        """Stop a service as Docker does, by SIGTERM.

        Returns:
            Seconds that it took.

        Raises:
            Failure: it had to be killed.
        """
        process = self._running.pop(service)
        started = time.monotonic()
        if not _end(process):
            raise Failure(f"{service} did not stop within {_STOP_SECONDS:.0f} s of SIGTERM.")
        return time.monotonic() - started

    def stop_all(self) -> None:
        """Stop what still runs, last started first."""
        for service in reversed(list(self._running)):
            _end(self._running.pop(service))

    def log(self, service: str) -> Path:
        """A service's log."""
        return self._folder / "logs" / f"{service}.log"

    def environment(self, service: str) -> dict[str, str]:
        """A service's environment, and of ours what every program needs."""
        home = self._folder / "homes" / service
        home.mkdir(parents=True, exist_ok=True)
        own = {name: os.environ[name] for name in _KEPT if name in os.environ}
        own["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{own.get('PATH', os.defpath)}"
        given = self._services[service].get("environment", {})
        return {
            **own,
            "HOME": str(home),
            **{name: self._native(service, value) for name, value in given.items()},
        }

    def _command(self, service: str) -> list[str]:
        command = [self._native(service, word) for word in self._services[service]["command"]]
        return _IMAGES[service](self, command) if service in _IMAGES else command

    def _native(self, service: str, text: str) -> str:
        for target, place in sorted(self._places(service).items(), key=lambda item: -len(item[0])):
            text = re.sub(rf"(?<![\w/]){re.escape(target)}(?![\w-])", str(place), text)
        text = _HOSTS.sub("127.0.0.1", text.replace("0.0.0.0", "127.0.0.1"))  # noqa: S104 - away
        return _PORTS.sub(lambda match: str(self.port(int(match[1]), service)), text)

    def _places(self, service: str) -> dict[str, Path]:
        """Folders and files in place of those in containers of this image, by their path there.

        A job that mounts nothing may still name what the workers mount.
        """
        places = {"/app": self._app}
        image = self._services[service]["image"]
        for other in self._services.values():
            for volume in other.get("volumes", []) if other["image"] == image else []:
                named = volume["type"] == "volume"
                source = volume["source"]
                places[volume["target"]] = self._folder / "data" / source if named else Path(source)
        for config in self._services[service].get("configs", []):
            places[config["target"]] = self._folder / f"{config['source']}.conf"
        return places

    def _write_configs(self, service: str) -> None:
        for config in self._services[service].get("configs", []):
            content = self._configs[config["source"]]["content"]
            # Containers listen on all interfaces of their own network.
            content = self._native(service, content.replace("bind * -::*", "bind 127.0.0.1"))
            self._places(service)[config["target"]].write_text(content)

    def _popen(
        self, service: str, command: Sequence[str], log: str = ""
    ) -> subprocess.Popen[bytes]:
        for target, place in self._places(service).items():
            if target.startswith("/data") or service == "postgres":
                place.mkdir(parents=True, exist_ok=True)
        self._write_configs(service)
        path = self.log(f"{service}-{log}" if log else service)
        path.parent.mkdir(exist_ok=True)
        with path.open("ab") as output:
            return subprocess.Popen(  # noqa: S603 - docker-compose.yml's commands
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._app,
                env=self.environment(service),
                start_new_session=True,
                **_user_of(service),
            )

    def prepare_postgres(self) -> None:
        """Make the cluster and the database, as the entry point of PostgreSQL's image does.

        Raises:
            Failure: PostgreSQL refused.
        """
        data = self.place("postgres", "/var/lib/postgresql/data")
        data.mkdir(parents=True)
        user = _user_of("postgres")
        if user:
            shutil.chown(data, "postgres", "postgres")
        environment = self._services["postgres"]["environment"]
        password = data.parent / "password"
        password.write_text(environment["POSTGRES_PASSWORD"])
        if user:
            shutil.chown(password, "postgres")
        owner = environment["POSTGRES_USER"]
        options = [f"--username={owner}", f"--pwfile={password}", "--auth=scram-sha-256"]
        self.run("postgres", [_postgres("initdb"), f"--pgdata={data}", *options])
        password.unlink()
        socketless = ["-c", "listen_addresses=", "-c", "unix_socket_directories="]
        single = [_postgres("postgres"), "--single", "-D", str(data), *socketless, "postgres"]
        made = subprocess.run(  # noqa: S603 - no shell, our own arguments
            single,
            input=f"CREATE DATABASE {environment['POSTGRES_DB']} OWNER {owner}\n",
            text=True,
            capture_output=True,
            check=False,
            **user,
        )
        if made.returncode:
            raise Failure(f"PostgreSQL did not make the database: {made.stderr.strip()[-300:]}")


def _postgres_command(services: NativeServices, command: list[str]) -> list[str]:
    """The image's settings beside its command: the data's folder; and our port."""
    data = services.place("postgres", "/var/lib/postgresql/data")
    options = [f"port={services.port(5432)}", "listen_addresses=127.0.0.1"]
    options.append("unix_socket_directories=")
    settings = [word for option in options for word in ("-c", option)]
    return [_postgres(command[0]), "-D", str(data), *settings, *command[1:]]


def _s3_command(services: NativeServices, command: list[str]) -> list[str]:  # noqa: ARG001
    """The image's entry point is the program itself."""
    return ["weed", *command]


# Official images whose entry points add something to the command.
_IMAGES: Mapping[str, Callable[[NativeServices, list[str]], list[str]]] = {
    "postgres": _postgres_command,
    "s3": _s3_command,
}


def _postgres(program: str) -> str:
    """Debian keeps the programs of a server out of the path."""
    places = [str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"))]
    found = shutil.which(program, path=os.pathsep.join([*places[::-1], os.environ["PATH"]]))
    if not found:
        raise Failure(f"{program} is not there: apt-get install postgresql redis-server.")
    return found


def _user_of(service: str) -> dict[str, Any]:
    """PostgreSQL refuses to be root."""
    if service != "postgres" or os.getuid() != 0:
        return {}
    pwd.getpwnam("postgres")
    return {"user": "postgres", "group": "postgres", "extra_groups": []}


def _end(process: subprocess.Popen[bytes]) -> bool:
    """End a process by SIGTERM, else by SIGKILL; whether SIGTERM was enough."""
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False
    return True


def _free_port(taken: set[int]) -> int:
    """A free port, with the one at 10,000 above it free, too."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        below = port - 20_000 if port > _HIGHEST_PORT else port
        if below not in taken and all(_is_free(p) for p in (below, below + 10_000)):
            return below


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
