"""Weights: specs, the cache folder with its records, fetching over loopback, and safe reading."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType

import pytest
import torch
from safetensors.torch import save_file

from storage import weights, weights_registry
from storage.errors import StorageError, WeightsError
from storage.weights import (
    ClipSpec,
    SelfMaskSpec,
    cached_weights,
    check,
    fetch,
    load_state_dict,
    parse_clip,
    parse_selfmask,
    resolve,
)
from storage.weights_registry import Download, PublishedWeights, clip_architectures, published

TENSORS = {"a.weight": torch.arange(4.0), "b": torch.ones(2, 2, dtype=torch.float16)}


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


class Server(http.server.ThreadingHTTPServer):
    """Serves `files` on a loopback port and keeps the paths that were asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.cut_short = False

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if self.server.cut_short else content)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join(timeout=10)


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch):
    """Make `nq20` come from other addresses."""

    def replace(*urls: str, sha256: str | None = None) -> None:
        entry = PublishedWeights(
            name="nq20",
            stem="selfmask_nq20",
            downloads=tuple(Download(url=url, sha256=sha256) for url in urls),
        )
        table = MappingProxyType(dict(weights_registry.SELFMASK) | {"nq20": entry})
        monkeypatch.setattr(weights_registry, "SELFMASK", table)
        monkeypatch.setattr(weights, "SELFMASK", table)

    return replace


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def unreachable_url() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return f"http://127.0.0.1:{port}/selfmask_nq20.pt"


def left_over(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*.part")]


# --- specs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "architecture", "value"),
    [
        ("ViT-B-32-quickgelu:openai", "ViT-B-32-quickgelu", "openai"),
        ("ViT-B-32:openai", "ViT-B-32-quickgelu", "openai"),
        ("ViT-B-32:laion2B-s34B-b79K", "ViT-B-32", "laion2b_s34b_b79k"),
        ("ViT-B-32:random:0", "ViT-B-32", "random:0"),
        ("ViT-B-32:here.SafeTensors", "ViT-B-32", "here.SafeTensors"),
        ("ViT-B-32:/a:b/c", "ViT-B-32", "/a:b/c"),
    ],
)
def test_parse_clip(spec, architecture, value):
    parsed = parse_clip(spec)
    assert parsed == ClipSpec(architecture=architecture, weights=value)
    assert parse_clip(str(parsed)) == parsed


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("ViT-B/32:openai", "the nearest are ViT-B-32"),
        ("vit-b-32:openai", "ViT-B-32"),
        ("qqq:openai", "of which ViT-B-32-quickgelu, ViT-B-16-quickgelu are the usual ones"),
        ("ViT-B-32", "names no weights"),
        ("ViT-B-32:", "names no weights"),
        ("ViT-B-32:random", "no usable seed"),
        ("ViT-B-32:random:-1", "no usable seed"),
        ("ViT-B-32:random:x", "no usable seed"),
        ("ViT-B-32:random:²", "no usable seed"),
        (f"ViT-B-32:random:{1 << 63}", "no usable seed"),
        ("", "no CLIP architecture ''"),
    ],
)
def test_parse_clip_refuses(spec, expected):
    with pytest.raises(WeightsError) as caught:
        parse_clip(spec)
    assert expected in str(caught.value)


@pytest.mark.parametrize("spec", ["nq20", "nq10", "random:7", "a/b", "x.pt"])
def test_parse_selfmask(spec):
    assert parse_selfmask(spec) == SelfMaskSpec(weights=spec)


@pytest.mark.parametrize("spec", ["nq30", "", "random", "openai"])
def test_parse_selfmask_refuses(spec):
    with pytest.raises(WeightsError):
        parse_selfmask(spec)


def test_architectures_are_open_clips():
    import open_clip

    assert clip_architectures() == set(open_clip.list_models())


def test_nothing_imports_torch_until_it_must():
    code = """
import sys
from flows import weights_commands
from storage import vocabulary, weights, weights_registry, prompt_templates
weights.parse_clip("ViT-B-32:openai")
weights.resolve(weights.parse_clip("ViT-B-32:random:0"))
weights_registry.published("ViT-B-16:openai")
vocabulary.load_vocabulary("coco")
assert not {"torch", "open_clip"} & set(sys.modules), "imported"
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# --- the registry -------------------------------------------------------------------------------


def test_openai_pins_agree_with_open_clips_table():
    from open_clip import pretrained

    for name, pin in weights_registry._PINS.items():
        architecture, tag = name.split(":")
        entry = pretrained.get_pretrained_cfg(architecture, tag)
        assert entry["hf_hub"] == f"{pin.repository}/"
        assert len(pin.sha256) == 64
        (download,) = published(name).downloads
        assert pin.revision in download.url
        assert download.sha256 == pin.sha256


def test_every_published_clip_resolves_to_addresses_or_to_advice():
    from open_clip import pretrained

    for architecture, tag in pretrained.list_pretrained():
        try:
            entry = published(f"{architecture}:{tag}")
        except WeightsError as error:
            assert "QuickGELU" in str(error)  # noqa: PT017 - most names don't raise
            continue
        assert entry.downloads[0].suffix == ".safetensors"
        assert all(download.url.startswith("https://") for download in entry.downloads)
        assert all("openaipublic" not in download.url for download in entry.downloads)


def test_hub_files_with_a_name_of_their_own():
    urls = [download.url for download in published("ViTamin-S:datacomp1b").downloads]
    assert urls == [
        "https://huggingface.co/jienengchen/ViTamin-S/resolve/main/pytorch_model.safetensors",
        "https://huggingface.co/jienengchen/ViTamin-S/resolve/main/pytorch_model.bin",
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ViT-B-32:nonsense", "it has openai, laion400m_e31"),
        ("ViT-B-32:metaclip_400m", "write ViT-B-32-quickgelu:metaclip_400m"),
        ("ViT-B-32-quickgelu:laion2b_s34b_b79k", "it has openai"),
        ("ViT-B-32:random:0", "not a published name"),
        ("nq30", "known are nq20, nq10, ViT-B-32-quickgelu:openai"),
    ],
)
def test_unpublished_names(name, expected):
    with pytest.raises(WeightsError) as caught:
        published(name)
    assert expected in str(caught.value)


# --- resolving ----------------------------------------------------------------------------------


def test_random_weights_say_that_they_are_untrained(folder):
    resolved = resolve(parse_clip("ViT-B-32:random:5"))
    assert (resolved.kind, resolved.seed, resolved.path) == ("random", 5, None)
    assert resolved.digest == "random:5"
    assert resolved.untrained
    assert resolved.label == "ViT-B-32:random:5 (untrained)"
    assert not folder.exists()


def test_a_file_by_its_path(tmp_path, payload):
    path = tmp_path / "payload.pt"
    resolved = resolve(parse_selfmask(str(path)))
    assert (resolved.kind, resolved.seed, resolved.path) == ("file", None, path)
    assert resolved.digest == sha256(payload)
    assert not resolved.untrained


def test_digest_is_remembered_until_the_file_changes(tmp_path, monkeypatch, payload):
    path = tmp_path / "payload.pt"
    spec = parse_selfmask(str(path))
    hashed = []
    original = weights._sha256
    monkeypatch.setattr(weights, "_sha256", lambda path: hashed.append(path) or original(path))
    assert resolve(spec) == resolve(spec)
    assert len(hashed) == 1
    path.write_bytes(payload[::-1])  # the same size
    os.utime(path, ns=(1, 1))
    assert resolve(spec).digest == sha256(payload[::-1])
    assert len(hashed) == 2


def test_a_damaged_memory_of_digests_is_rebuilt(tmp_path, folder, payload):
    spec = parse_selfmask(str(tmp_path / "payload.pt"))
    resolve(spec)
    (memory,) = (folder / "digests").iterdir()
    memory.write_text("[]")
    assert resolve(spec).digest == sha256(payload)


def test_resolving_works_where_the_folder_cannot_be_made(tmp_path, monkeypatch, payload):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("ZUTIS_WEIGHTS", str(tmp_path / "file" / "cache"))
    assert resolve(parse_selfmask(str(tmp_path / "payload.pt"))).digest == sha256(payload)


def test_missing_path(tmp_path):
    with pytest.raises(WeightsError, match=r"no weights file .*gone\.pt"):
        resolve(parse_selfmask(str(tmp_path / "gone.pt")))


def test_missing_weights_say_what_where_from_and_where_to(folder):
    with pytest.raises(WeightsError) as caught:
        resolve(parse_clip("ViT-B-32:openai"))
    text = str(caught.value)
    assert str(folder / "ViT-B-32-quickgelu--openai.safetensors") in text
    assert "https://huggingface.co/timm/vit_base_patch32_clip_224.openai/" in text
    assert "zutis weights fetch ViT-B-32-quickgelu:openai" in text

    with pytest.raises(WeightsError) as caught:
        resolve(parse_selfmask("nq20"))
    text = str(caught.value)
    assert str(folder / "selfmask_nq20.pt") in text
    assert "github.com/NoelShin/selfmask/releases/download/v1.0.0/selfmask_nq20.pt" in text
    assert "www.robots.ox.ac.uk" in text


def test_a_file_put_there_by_hand_is_recorded_and_then_holds(folder, payload):
    folder.mkdir()
    path = folder / "selfmask_nq10.pt"
    path.write_bytes(payload)
    assert resolve(parse_selfmask("nq10")).digest == sha256(payload)
    record = json.loads((folder / "selfmask_nq10.json").read_text())
    assert (record["url"], record["sha256"], record["size"]) == (
        None,
        sha256(payload),
        len(payload),
    )
    path.write_bytes(payload + b"x")
    with pytest.raises(WeightsError, match=r"damaged or changed.*weights fetch nq10"):
        resolve(parse_selfmask("nq10"))


def test_a_file_put_there_by_hand_must_have_the_known_digest(folder, payload):
    folder.mkdir()
    (folder / "ViT-B-32-quickgelu--openai.safetensors").write_bytes(payload)
    with pytest.raises(WeightsError, match="is not ViT-B-32-quickgelu:openai"):
        resolve(parse_clip("ViT-B-32:openai"))


def test_a_damaged_record(folder, payload):
    folder.mkdir()
    (folder / "selfmask_nq20.json").write_text("{")
    with pytest.raises(WeightsError, match=r"selfmask_nq20\.json can't be read.*delete it"):
        resolve(parse_selfmask("nq20"))


def test_default_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("ZUTIS_WEIGHTS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert weights.weights_folder().parts[-2:] == ("zutis", "weights")


# --- fetching -----------------------------------------------------------------------------------


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
    first, second = unreachable_url(), unreachable_url()
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


# --- checking -----------------------------------------------------------------------------------


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


def test_check_of_nothing(folder):
    assert check() == []
    assert [(result.name, result.status) for result in check("nq10")] == [("nq10", "missing")]


def test_check_counts_files_put_there_by_hand(folder, payload):
    folder.mkdir()
    (folder / "selfmask_nq20.pt").write_bytes(payload)
    assert list(cached_weights()) == ["nq20"]
    assert [(result.name, result.status) for result in check()] == [("nq20", "ok")]


def test_check_of_a_path(tmp_path, payload):
    (result,) = check(str(tmp_path / "payload.pt"))
    assert (result.status, result.sha256) == ("unrecorded", sha256(payload))
    with pytest.raises(WeightsError, match="no weights file"):
        check(str(tmp_path / "gone.pt"))


# --- reading ------------------------------------------------------------------------------------


def same(loaded: dict[str, torch.Tensor]) -> bool:
    return loaded.keys() == TENSORS.keys() and all(
        torch.equal(loaded[name], tensor) and loaded[name].dtype == tensor.dtype
        for name, tensor in TENSORS.items()
    )


@pytest.mark.parametrize(
    "content",
    [
        TENSORS,
        {"state_dict": TENSORS, "epoch": 3},
        {"model": TENSORS},
        {"state_dict": {f"module.{name}": tensor for name, tensor in TENSORS.items()}},
    ],
)
@pytest.mark.parametrize("as_zip", [True, False])
def test_read_what_torch_saves(tmp_path, content, as_zip):
    path = tmp_path / "w.pt"
    torch.save(content, path, _use_new_zipfile_serialization=as_zip)
    assert same(load_state_dict(path))


def test_read_safetensors(tmp_path):
    save_file(TENSORS, tmp_path / "w.safetensors")
    assert same(load_state_dict(tmp_path / "w.safetensors"))


def test_module_is_kept_where_not_every_name_has_it(tmp_path):
    torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "w.pt")
    assert set(load_state_dict(tmp_path / "w.pt")) == {"module.a", "b"}


def test_torchscript_is_refused(tmp_path):
    traced = torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2))
    torch.jit.save(traced, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="TorchScript archive"):
        load_state_dict(tmp_path / "w.pt")


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("bare", [True, False])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path, bare):
    path, marker = tmp_path / "w.pt", tmp_path / "ran"
    if bare:
        path.write_bytes(pickle.dumps({"a": Bomb(marker)}))
    else:
        torch.save({"a": Bomb(marker)}, path)
    with pytest.raises(WeightsError, match="could run code"):
        load_state_dict(path)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncated_files(tmp_path, name, share):
    path = tmp_path / name
    if name == "w.pt":
        torch.save({"a": torch.ones(1000)}, path)
    else:
        save_file({"a": torch.ones(1000)}, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(WeightsError, match="download it again"):
        load_state_dict(path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({}, "holds no state dict"),
        ([torch.ones(1)], "holds no state dict"),
        ({"a": torch.ones(1), "epoch": 3}, "'epoch' is a int, not a tensor"),
    ],
)
def test_no_state_dict(tmp_path, content, expected):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=expected):
        load_state_dict(tmp_path / "w.pt")


def test_no_file(tmp_path):
    with pytest.raises(WeightsError, match="no weights file"):
        load_state_dict(tmp_path / "w.pt")
