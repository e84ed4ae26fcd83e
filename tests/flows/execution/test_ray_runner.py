"""Parts on a real Ray cluster of two nodes with one place each, one of which is killed."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from flows.execution import ray_cluster
from flows.execution.executors import LocalExecutor
from flows.execution.progress import SilentWatcher, StageProgress
from flows.execution.ray_cluster import ClusterError, connect, parts_in_flight, run_on_cluster
from flows.execution.stage_call import StageCall
from flows.settings.build import BuildSettings
from flows.settings.options import changed
from storage.artifacts.store import ArtifactRef, ArtifactStore
from storage.errors.exceptions import ConfigError, CorpusError
from tasks.indexing import scan
from tasks.retrieval import search_index
from tasks.stage.contract import plan_parts
from tests.support.runs.builds import build_here, contents
from tests.support.runs.ray_fakes import GO

ROOT = Path(__file__).parents[3]


def wait_until(true: Callable[[], Any], seconds: float, what: str) -> Any:
    deadline = time.monotonic() + seconds
    while not (answer := true()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.1)
    return answer


def descendants(pid: int) -> list[int]:
    """The process and everything that it or its children started."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue  # the process has just ended
        children.setdefault(parent, []).append(int(folder.name))
    found = [pid]
    for process in found:
        found += children.get(process, [])
    return found


def kill_machine(node: subprocess.Popen[bytes]) -> None:
    """SIGKILL to every process of a node at once, as if the power had gone."""
    for pid in descendants(node.pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    node.wait(timeout=30)


@dataclass
class Cluster:
    address: str
    environment: dict[str, str]
    head: subprocess.Popen[bytes]
    other: subprocess.Popen[bytes] | None = None

    def have_two_nodes(self) -> None:
        """Start the other node, if there is none or it was killed; wait until both are counted."""
        import ray

        if self.other is None or self.other.poll() is not None:
            wait_until(lambda: ray.cluster_resources().get("CPU") == 1, 300, "one node")
            self.other = start_node(self.environment, "--address", self.address)
        wait_until(lambda: ray.cluster_resources().get("CPU") == 2, 300, "two nodes")


def start_node(environment: dict[str, str], *options: str) -> subprocess.Popen[bytes]:
    command = [
        str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats",
        "--node-ip-address", "127.0.0.1", "--object-store-memory", "100000000",
        "--num-cpus", "1", "--include-log-monitor", "false",
        "--dashboard-agent-listen-port", "0",  # two nodes on one machine would take the same port
    ]  # fmt: skip
    return subprocess.Popen(
        [*command, *options],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


@contextmanager
def running_cluster(traces: Path, port: int, folder: Path) -> Iterator[Cluster]:
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "ZUTIS_TEST_TRACES": str(traces),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        # Ray takes slow starts for dead processes, and a busy machine is slow.
        "RAY_agent_register_timeout_ms": "180000",
        "RAY_worker_register_timeout_seconds": "180",
        "RAY_raylet_start_wait_time_s": "180",
    }
    address = f"127.0.0.1:{port}"
    head = start_node(
        environment, "--head", "--port", str(port),
        "--include-dashboard", "false", "--temp-dir", str(folder),
    )  # fmt: skip
    cluster = Cluster(address, environment, head)
    try:
        join(cluster)
        yield cluster
    finally:
        import ray

        ray.shutdown()
        for node in (cluster.other, head):
            if node is not None:
                kill_machine(node)


def join(cluster: Cluster) -> None:
    """Connect this process, so that the workers it uses answer with the fakes."""
    ray = ray_cluster._ray()

    def listens() -> bool:
        assert cluster.head.poll() is None, "the head did not start"
        with socket.socket() as probe:
            host, port = cluster.address.split(":")
            return probe.connect_ex((host, int(port))) == 0

    def joined() -> bool:
        try:
            ray.init(
                address=cluster.address,
                runtime_env={"worker_process_setup_hook": "tests.support.runs.ray_fakes.install"},
                log_to_driver=False,
                logging_level="ERROR",
            )
        except (ConnectionError, RuntimeError, ValueError):
            return False
        return True

    wait_until(listens, 300, "the head listens")
    wait_until(joined, 300, "the head answers")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("traces")


@pytest.fixture(scope="module")
def token() -> Iterator[None]:
    """A password of the cluster, which Ray reads when it is imported."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_AUTH_MODE", "token")
        environment.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        environment.delenv("RAY_ADDRESS", raising=False)
        yield


@pytest.fixture(scope="module")
def cluster(traces: Path, token: None) -> Iterator[Cluster]:
    if find_spec("ray") is None:
        pytest.skip("ray is not installed: it is the extra `ray`")
    # Ray puts sockets there, whose paths have to be short.
    with (
        tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder,
        running_cluster(traces, free_port(), Path(folder)) as started,
    ):
        yield started


@pytest.fixture
def two_nodes(cluster: Cluster, traces: Path) -> Cluster:
    """Two living nodes, and no signal to go on yet."""
    for trace in traces.iterdir():
        trace.unlink()
    cluster.have_two_nodes()
    return cluster


def embedding_processes(traces: Path) -> set[int]:
    return {int(path.name.split("-")[0]) for path in traces.iterdir() if path.name != GO}


class OnCluster(LocalExecutor):
    """Runs every part on the cluster, without Prefect."""

    cluster = ""

    def _run(self, progress: StageProgress, config: Any, inputs: Any) -> Any:
        from concurrent.futures import ThreadPoolExecutor

        def run(item: Any) -> Any:
            ref = self._ref(progress.stage, config, item)
            call = StageCall(
                progress.stage, config, item, self.store.root, ref, progress.stage, self.cluster
            )
            made = run_on_cluster(call, progress)
            return made and self.store.get(made)

        with ThreadPoolExecutor(parts_in_flight(config)) as pool:
            return list(pool.map(run, inputs))


def build_on(cluster: Cluster, settings: BuildSettings) -> list[StageProgress]:
    from flows.pipelines.build import build

    executor = OnCluster(ArtifactStore(settings.store))
    executor.cluster = cluster.address
    build(settings, executor)
    return executor.reports


@pytest.mark.slow
def test_a_machine_that_dies_in_mid_stage_loses_no_part(
    two_nodes: Cluster, settings: BuildSettings, traces: Path, tmp_path: Path
):
    here = changed(settings, store=str(tmp_path / "here"))
    build_here(here)
    reports: list[StageProgress] = []
    building = threading.Thread(target=lambda: reports.extend(build_on(two_nodes, settings)))
    building.start()
    working = wait_until(
        lambda: len(found := embedding_processes(traces)) == 2 and found, 300, "both nodes embed"
    )
    victim = two_nodes.other
    assert victim is not None
    assert len(working & set(descendants(victim.pid))) == 1
    kill_machine(victim)
    (traces / GO).touch()
    building.join(timeout=400)
    assert not building.is_alive()
    assert contents(settings.store) == contents(here.store)
    embedding = next(report for report in reports if report.stage == "embed_images")
    assert (embedding.done, embedding.parts) == (12, 3)
    begun = [path for path in traces.iterdir() if path.name != GO]
    assert len(begun) == 3 + 1, "the part in flight was done twice, and no other"


@pytest.mark.slow
def test_the_flow_on_a_cluster_publishes_what_threads_publish(
    two_nodes: Cluster, settings: BuildSettings, traces: Path, tmp_path: Path, prefect_api: None
):
    from flows.build_pseudolabels import run_build

    (traces / GO).touch()
    here = changed(settings, store=str(tmp_path / "here"))
    build_here(here)
    on_ray = changed(settings, runner="ray", ray_address=two_nodes.address)
    built, reports = run_build(on_ray, SilentWatcher())
    assert contents(on_ray.store) == contents(here.store)
    assert next(report for report in reports if report.stage == "make_masks").done == 12
    assert os.getpid() not in embedding_processes(traces), "nothing was embedded in this process"
    again, reports = run_build(on_ray, SilentWatcher())
    assert again.dataset.manifest == built.dataset.manifest
    looks = ("scan", "plan_masks")
    assert all(r.cached_parts == r.parts for r in reports if r.stage not in looks)


@pytest.mark.slow
def test_two_nodes_that_make_the_same_part_publish_one(
    two_nodes: Cluster, settings: BuildSettings, traces: Path
):
    from concurrent.futures import ThreadPoolExecutor

    from tasks.indexing import embed_images
    from tasks.stage.contract import PartOfPlan

    store = ArtifactStore(settings.store)
    plan = run_on_cluster(scan_call(two_nodes, settings.corpus[0], settings.store), None)
    assert plan is not None
    from tests.support.runs.builds import clip

    config, part = embed_images.Config(clip=clip()), PartOfPlan(plan, 0)
    ref = embed_images.locate(config, part, store)
    call = StageCall("embed_images", config, part, settings.store, ref, "embed", two_nodes.address)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(run_on_cluster, call, None) for _ in range(2)]
        wait_until(lambda: len(embedding_processes(traces)) == 2, 300, "both nodes embed")
        (traces / GO).touch()
        assert [future.result(timeout=90) for future in both] == [ref, ref]
    artifact = store.get(ref)
    assert artifact.problems(deep=True) == []
    # Tests of the store check that the second publisher removes its attempt. On a busy machine,
    # Ray may also give up a worker and restart its part, which leaves an attempt for gc.
    assert artifact.manifest["attempt"] in store.attempts(ref)
    assert plan_parts(store.get(plan))[0]["items"] == artifact.counts["images"]


@pytest.mark.slow
def test_under_uv_run_the_workers_keep_their_own_environment(two_nodes: Cluster, tmp_path: Path):
    """Otherwise Ray copies the project's folder to them, and has uv install it there."""
    program = (
        "import sys; from flows.execution.ray_cluster import connect; connect(sys.argv[1]); "
        "import ray; print(dict(ray.get_runtime_context().runtime_env))"
    )
    # Ray looks for an ancestor with the command line `uv run …`.
    (tmp_path / "run").write_text('"$1" -c "$2" "$3"\nexit $?\n')
    ours = {name: value for name, value in os.environ.items() if "UV_RUN" not in name}
    done = subprocess.run(
        ["uv", "run", sys.executable, program, two_nodes.address], executable="/bin/sh",
        cwd=tmp_path, env=ours | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "{}"


@pytest.mark.slow
def test_a_mistake_keeps_its_sentence(two_nodes: Cluster, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match=r"^[^\n]* holds no image [^\n]*\.$"):
        run_on_cluster(scan_call(two_nodes, str(tmp_path / "empty"), str(tmp_path / "s")), None)


@pytest.mark.slow
def test_a_stage_that_no_machine_can_run_is_refused(two_nodes: Cluster):
    assert parts_in_flight(search_index.Config(k=1, texts_prefix="t")) == 4
    with pytest.raises(ConfigError, match="has no GPU"):
        parts_in_flight(search_index.Config(k=1, texts_prefix="t", device="cuda"))


def scan_call(cluster: Cluster, corpus: str, store: str) -> StageCall:
    return StageCall(
        "scan", scan.Config(source=corpus), scan.Inputs(), store, None, "scan", cluster.address
    )


class NoSuchRay:
    """Ray as far as `ray_cluster` sees it, whose workers always die."""

    class exceptions:  # noqa: N801 - as Ray calls it
        class RayError(Exception):
            pass

        class RayTaskError(RayError):
            pass

    @staticmethod
    def is_initialized() -> bool:
        return True

    @classmethod
    def remote(cls, function: Any) -> Any:
        class Part:
            def options(self, **options: Any) -> Any:
                cls.asked = options
                return self

            def remote(self, *arguments: Any) -> None:
                return None

        return Part()

    @classmethod
    def get(cls, part: Any) -> Any:
        raise cls.exceptions.RayError("The worker died unexpectedly.\nLong story")


@pytest.fixture
def no_such_ray(monkeypatch: pytest.MonkeyPatch) -> type[NoSuchRay]:
    monkeypatch.setattr(ray_cluster, "_ray", lambda: NoSuchRay)
    return NoSuchRay


def call_of(config: Any) -> StageCall:
    return StageCall("search_index", config, None, "/s", ArtifactRef("a", "b"), "part 7", "auto")


def test_a_part_that_is_lost_again_and_again_is_named(no_such_ray: type[NoSuchRay]):
    with pytest.raises(ClusterError, match=r"^part 7 was lost .*\(The worker died unexpectedly\)"):
        run_on_cluster(call_of(search_index.Config(k=1, texts_prefix="t")), None)
    assert "num_gpus" not in no_such_ray.asked


def test_a_part_for_a_gpu_asks_for_one_and_never_for_a_certain_one(no_such_ray: type[NoSuchRay]):
    with pytest.raises(ClusterError):
        run_on_cluster(call_of(search_index.Config(k=1, texts_prefix="t", device="cuda")), None)
    assert no_such_ray.asked["num_gpus"] == 1
    with pytest.raises(ConfigError, match="Ray gives each part its GPU"):
        run_on_cluster(call_of(search_index.Config(k=1, texts_prefix="t", device="cuda:1")), None)


def test_ray_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch):
    ray_cluster._ray.cache_clear()
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match="extra ray"):
        connect("auto")
    ray_cluster._ray.cache_clear()


def test_threads_are_the_default_and_other_runners_are_refused():
    settings = BuildSettings(corpus=("x",), vocabulary="coco")
    assert settings.cluster == ""
    assert changed(settings, runner="ray").cluster == "auto"
    with pytest.raises(ConfigError, match="choose threads or ray"):
        changed(settings, runner="dask")
