"""An S3 store whose server fails a third of all requests, is slow, or truncates responses.

The server is moto's, on loopback, and a proxy before it injects the faults. Whole builds take
minutes with it, so only single artifacts are tested by default.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fault_builds import Build, Undisturbed, parts_of, published
from fault_s3 import Mischief, Proxy, proxy_before
from fault_servers import PrefectServer

from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import ArtifactRef, ArtifactStore
from storage.files.filesystems import open_binary, read_bytes, resolve
from tests.support.servers.s3_server import s3_environment, s3_server, url_of, using_s3

pytestmark = pytest.mark.slow

KINDS_OF_MISCHIEF = pytest.mark.parametrize(
    ("mischief", "counted"), [("fails", "failed"), ("is slow", "passed"), ("is short", "cut")]
)


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    """The URL of a server without faults, which this process uses directly."""
    with s3_server() as server, using_s3(url_of(server)):
        yield url_of(server)


@pytest.fixture
def proxy(s3_url: str, fault_seed: int) -> Iterator[Proxy]:
    with proxy_before(s3_url, fault_seed) as proxy:
        yield proxy


def make_bucket(name: str) -> str:
    import s3fs

    s3fs.S3FileSystem().mkdir(name)
    return name


@KINDS_OF_MISCHIEF
def test_artifacts_are_complete_despite_a_faulty_server(
    mischief: Mischief, counted: str, proxy: Proxy
):
    bucket = make_bucket(f"single-{mischief.split()[-1]}")
    proxy.mischief = mischief
    with using_s3(proxy.url):
        store = ArtifactStore(f"s3://{bucket}/store")
        content = {f"{name}.bin": name.encode() * 10_000 for name in "abc"}
        refs = [ArtifactRef("thing", f"k{number}") for number in range(2)]
        for ref in refs:
            with store.attempt(ref) as attempt:
                for name, data in content.items():
                    with attempt.create(name) as file:
                        file.write(data)
                store.publish(attempt, Recipe(stage="thing", version=1, config={}))
        for ref in refs:
            artifact = ArtifactStore(store.root).get(ref)
            for name, data in content.items():
                with artifact.open(name) as file:
                    assert file.read() == data
            assert artifact.problems(deep=True) == []
    assert proxy.done[counted] >= 3


@pytest.mark.parametrize(
    ("bucket", "read"),
    [("whole", read_bytes), ("stream", lambda uri: open_binary(uri).read())],
)
def test_a_truncated_body_is_retried_as_often_as_a_failed_request(
    bucket: str, read: Callable[[str], bytes], proxy: Proxy, monkeypatch: pytest.MonkeyPatch
):
    make_bucket(bucket)
    with using_s3(proxy.url):
        uri = f"s3://{bucket}/thing"
        resolve(uri)[0].pipe_file(f"{bucket}/thing", b"0123456789")
        draws = itertools.count()
        monkeypatch.setattr(proxy, "draw", lambda of=3: int(next(draws) >= 6))
        proxy.mischief = "is short"
        assert read(uri) == b"0123456789"
    assert proxy.done["cut"] == 6


@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("only_if_long")
@KINDS_OF_MISCHIEF
def test_an_s3_server_that_misbehaves_changes_no_byte(
    mischief: Mischief,
    counted: str,
    workshop: Path,
    prefect_server: PrefectServer,
    undisturbed: Undisturbed,
    proxy: Proxy,
):
    bucket = make_bucket(f"zutis-{mischief.replace(' ', '-')}")
    build = Build(
        workshop,
        f"s3://{bucket}/{bucket}",
        train=False,
        server=prefect_server,
        forked=True,
        environment=s3_environment(proxy.url),
    )
    proxy.mischief = mischief
    build.finish()
    print(f"S3 {mischief}: {dict(proxy.done)}")
    assert proxy.done[counted] > 20
    assert published(build.store) == undisturbed.built
    again = build.finish()
    assert parts_of(again.events(), "begin") == []
