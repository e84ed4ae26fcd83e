"""A real S3 API on a loopback port: moto's server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

PASSWORD = "made-up-secret-key"
"""A secret that must not appear anywhere."""


@contextmanager
def s3_server() -> Iterator[Any]:
    """moto's server, which answers until the block ends; skips where it isn't installed."""
    pytest.importorskip("s3fs", reason="s3fs is not installed: the extra s3")
    module = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    server = module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def s3_environment(url: str) -> dict[str, str]:
    """The environment of a process that uses the server at `url`, and no other."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "tester",
        "AWS_SECRET_ACCESS_KEY": PASSWORD,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@contextmanager
def using_s3(url: str) -> Iterator[None]:
    """Let this process use the server at `url` until the block ends."""
    import s3fs

    with pytest.MonkeyPatch.context() as environment:
        for name, value in s3_environment(url).items():
            environment.setenv(name, value)
        for variable in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "HTTP_PROXY", "http_proxy"):
            environment.delenv(variable, raising=False)
        s3fs.S3FileSystem.clear_instance_cache()  # cached ones have the earlier address
        yield
        s3fs.S3FileSystem.clear_instance_cache()


def url_of(server: Any) -> str:
    host, port = server.get_host_and_port()
    return f"http://{host}:{port}"
