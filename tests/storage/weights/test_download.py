"""Downloads of weights over loopback: records, refusals, and no leftovers."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType

import pytest
import torch

from storage.errors.exceptions import StorageError, WeightsError
from storage.weights import registry
from storage.weights.download import fetch
from storage.weights.registry import Download, PublishedWeights, parse_selfmask
from storage.weights.resolving import cached_weights, check, resolve
from storage.weights.state_dicts import load_state_dict
from tests.support.servers.bad_server import hurried
from tests.support.servers.loopback import Server, serving, unreachable_url

TENSORS = {"a.weight": torch.arange(4.0), "b": torch.ones(2, 2, dtype=torch.float16)}


@pytest.fixture(autouse=True)
def without_sleeps(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with hurried(monkeypatch):
        yield


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder, which does not exist yet."""
    path = tmp_path / "cache"
    monkeypatch.setenv("ZUTIS_WEIGHTS", str(path))
    return path


@pytest.fixture
def payload(tmp_path: Path) -> bytes:
    torch.save(TENSORS, tmp_path / "payload.pt")
    return (tmp_path / "payload.pt").read_bytes()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch):
    """Make `nq20` come from other addresses."""

    def replace(*urls: str, sha256: str | None = None) -> None:
        entry = PublishedWeights(
            name="nq20",
            stem="selfmask_nq20",
            downloads=tuple(Download(url=url, sha256=sha256) for url in urls),
        )
        table = MappingProxyType(dict(registry.SELFMASK) | {"nq20": entry})
        monkeypatch.setattr(registry, "SELFMASK", table)

    return replace


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def left_over(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*.part")]


def test_fetch_records_and_does_not_fetch_twice(folder, server, publish, payload):
    server.files["/a/selfmask_nq20.pt"] = payload
    publish(server.url("/a/selfmask_nq20.pt?x=1"), server.url("/a/selfmask_nq20.pt"))
    path = fetch("nq20")
    assert path == folder / "selfmask_nq20.pt"
    assert path.read_bytes() == payload
    record = json.loads((folder / "selfmask_nq20.json").read_text())
    assert record == {
        "name": "nq20",
        "file": "selfmask_nq20.pt",
        "url": server.url("/a/selfmask_nq20.pt"),  # the first address answered 404
        "sha256": sha256(payload),
        "size": len(payload),
    }
    assert fetch("nq20") == path
    assert len(server.asked) == 2
    assert resolve(parse_selfmask("nq20")).digest == sha256(payload)
    assert torch.equal(load_state_dict(path)["b"], TENSORS["b"])
    assert left_over(folder) == []


def test_fetch_replaces_a_damaged_file(folder, server, publish, payload):
    server.files["/m.pt"] = payload
    publish(server.url("/m.pt"))
    path = fetch("nq20")
    path.write_bytes(payload[:-1])
    assert [result.status for result in check()] == ["changed"]
    fetch("nq20")
    assert path.read_bytes() == payload


def test_fetch_refuses_other_bytes_than_recorded(folder, server, publish, payload):
    server.files["/m.pt"] = payload
    publish(server.url("/m.pt"))
    path = fetch("nq20")
    path.unlink()
    server.files["/m.pt"] = payload + b"x"
    with pytest.raises(WeightsError, match=r"other bytes.*delete .*selfmask_nq20\.json"):
        fetch("nq20")
    assert not path.exists()
    assert left_over(folder) == []


def test_fetch_refuses_other_bytes_than_known(folder, server, publish, payload):
    server.files["/m.pt"] = payload
    publish(server.url("/m.pt"), sha256="0" * 64)
    with pytest.raises(WeightsError, match="other bytes"):
        fetch("nq20")
    assert list(folder.iterdir()) == []


def test_fetch_refuses_a_web_page(folder, server, publish):
    server.files["/m.pt"] = b"<html>please log in</html>"
    publish(server.url("/m.pt"))
    with pytest.raises(WeightsError, match="not a file of weights"):
        fetch("nq20")
    assert list(folder.iterdir()) == []


def test_fetch_notices_a_connection_that_ends_early(folder, server, publish, payload):
    server.files["/m.pt"] = payload
    server.cut_short = True
    publish(server.url("/m.pt"))
    with pytest.raises(WeightsError, match="the connection ended after"):
        fetch("nq20")
    assert list(folder.iterdir()) == []


def test_fetch_without_a_network(folder, publish):
    first, second = unreachable_url("/a.pt"), unreachable_url("/b.pt")
    publish(first, second)
    with pytest.raises(WeightsError) as caught:
        fetch("nq20")
    text = str(caught.value)
    assert first in text
    assert second in text
    assert "put it at " + str(folder / "selfmask_nq20.pt") in text
    assert list(folder.iterdir()) == []


def test_fetch_into_a_folder_that_cannot_be_made(tmp_path, monkeypatch, server, publish, payload):
    server.files["/m.pt"] = payload
    publish(server.url("/m.pt"))
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("ZUTIS_WEIGHTS", str(tmp_path / "file" / "cache"))
    with pytest.raises(StorageError, match="ZUTIS_WEIGHTS"):
        fetch("nq20")


def test_check_reads_the_bytes_and_not_the_memory(folder, server, publish, payload):
    server.files["/m.pt"] = payload
    publish(server.url("/m.pt"))
    path = fetch("nq20")
    resolve(parse_selfmask("nq20"))
    status = path.stat()
    path.write_bytes(payload[:-1] + bytes([payload[-1] ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    (result,) = check("nq20")
    assert (result.name, result.status, result.recorded) == ("nq20", "changed", sha256(payload))
    path.unlink()
    assert [result.status for result in check()] == ["missing"]
    assert cached_weights() == {"nq20": None}


# --- from a folder or a mirror ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["selfmask_nq20.pt", "published.pt"])
def test_weights_come_from_a_folder_under_either_name(folder, publish, payload, tmp_path, name):
    publish("https://publisher/v1/published.pt")
    (tmp_path / name).write_bytes(payload)
    path = fetch("nq20", source=str(tmp_path))
    assert path.read_bytes() == payload
    record = json.loads((folder / "selfmask_nq20.json").read_text())
    assert (record["sha256"], record["url"]) == (sha256(payload), str(tmp_path / name))
    assert resolve(parse_selfmask("nq20")).digest == sha256(payload)


@pytest.mark.parametrize("place", ["/m/published.pt", "/m/selfmask_nq20.pt"])
def test_weights_come_from_a_mirror(folder, server, publish, payload, place):
    publish("https://publisher/v1/published.pt")
    server.files[place] = payload
    assert fetch("nq20", source=server.url("/m/")).read_bytes() == payload


@pytest.mark.parametrize(
    "place", ["owner/name/file.pt", "owner/name/resolve/main/file.pt", "selfmask_nq20.pt"]
)
def test_files_of_the_hub_come_from_a_mirror_of_it(folder, server, publish, payload, place):
    publish("https://huggingface.co/owner/name/resolve/main/file.pt")
    server.files[f"/{place}"] = payload
    assert fetch("nq20", source=server.url("")).read_bytes() == payload


def test_a_folder_s_other_bytes_are_refused(folder, publish, payload, tmp_path):
    publish("https://publisher/published.pt", sha256="0" * 64)
    (tmp_path / "published.pt").write_bytes(payload)
    with pytest.raises(WeightsError, match="other bytes"):
        fetch("nq20", source=str(tmp_path))
    assert list(folder.iterdir()) == []


def test_places_without_the_weights_are_all_named(folder, publish, tmp_path):
    publish("https://publisher/published.pt")
    with pytest.raises(WeightsError, match=r"selfmask_nq20\.pt .*published\.pt .*can't be read"):
        fetch("nq20", source=str(tmp_path))
    with pytest.raises(WeightsError, match=r"no folder .*none"):
        fetch("nq20", source=str(tmp_path / "none"))
