"""Security of the source: forbidden calls, hostile files, and secrets in output."""

from __future__ import annotations

import ast
import contextlib
import struct
import tracemalloc
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pytest
from PIL import Image, ImageFile

from flows.cli import exit_code_of, run_command_line
from flows.execution.executors import LocalExecutor
from flows.pipelines.build import build
from flows.settings.options import changed
from storage.access.credentials import has_password, masked, refuse_secrets
from storage.artifacts.store import ArtifactStore
from storage.corpora.corpus import open_sources
from storage.errors.exceptions import ConfigError, ImageRejected, ZutisError
from storage.errors.reject_reasons import CREDENTIALS_IN_URI, TOO_LARGE, TOO_MANY_PIXELS
from storage.files.filesystems import display, open_binary, read_range
from storage.images.decoding import decode
from storage.images.records import read_parquet
from tests.support.files.coloured_images import write_corpus
from tests.support.runs.builds import settings_of, write_vocabulary

ROOT = Path(__file__).parents[1]
PACKAGES = ("storage", "tasks", "flows", "zutis_model", "made_world", "vocabularies", "benchmarks")
SECRET = "S3CRET-of-nobody"

# --- the source ---------------------------------------------------------------------------------

FORBIDDEN_CALLS = {
    "pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.load", "marshal.loads",
    "shelve.open", "joblib.load", "dill.load", "dill.loads", "cloudpickle.load",
    "cloudpickle.loads", "pandas.read_pickle", "torch.hub.load",
    "yaml.load", "yaml.load_all", "yaml.full_load", "yaml.full_load_all", "yaml.unsafe_load",
    "yaml.unsafe_load_all",
    "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput",
    "shutil.unpack_archive", "tempfile.mktemp", "eval", "exec",
}  # fmt: skip
# Of any object: tars and zips write members by their own names.
FORBIDDEN_METHODS = {"extractall", "extract"}
FORBIDDEN_KEYWORDS = {
    ("shell", True), ("allow_pickle", True), ("trust_remote_code", True), ("verify", False),
    ("weights_only", False),
}  # fmt: skip
EVERYWHERE = {"0.0.0.0"}
HOST_KEYWORDS = {"host", "bind", "address", "hostname"}


def violations(source: str) -> list[str]:
    """What in a module's source is forbidden, as `line: what`."""
    tree = ast.parse(source)
    names = _imported_names(tree)
    found = [
        f"{getattr(node, 'lineno', 0)}: {what}"
        for node in ast.walk(tree)
        for what in _violations_of(node, names)
    ]
    return sorted(found)


def _imported_names(tree: ast.AST) -> dict[str, str]:
    """What a name of the module stands for, dotted."""
    names: dict[str, str] = {"np": "numpy"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def _violations_of(node: ast.AST, names: dict[str, str]) -> Iterator[str]:
    if isinstance(node, ast.Call):
        yield from _violations_of_call(node, names)
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        defaults = [*node.args.defaults, *node.args.kw_defaults]
        yield from (f"a default of {value!r}" for value in _constants(defaults, EVERYWHERE))
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        yield from (f"a default of {value!r}" for value in _constants([node.value], EVERYWHERE))


def _violations_of_call(call: ast.Call, names: dict[str, str]) -> Iterator[str]:
    called = _dotted(call.func, names)
    if called in FORBIDDEN_CALLS:
        yield called
    if called == "torch.load" and not _has_keyword(call, "weights_only", True):
        yield "torch.load without weights_only=True"
    if isinstance(call.func, ast.Attribute) and call.func.attr in FORBIDDEN_METHODS:
        yield f".{call.func.attr}"
    yield from (f"{k}={v}" for k, v in sorted(FORBIDDEN_KEYWORDS) if _has_keyword(call, k, v))
    yield from (f"{value!r} as an argument" for value in _constants(call.args, EVERYWHERE))
    hosts = [keyword.value for keyword in call.keywords if keyword.arg in HOST_KEYWORDS]
    yield from (f"a host of {value!r}" for value in _constants(hosts, EVERYWHERE | {"::", ""}))


def _dotted(node: ast.AST, names: dict[str, str]) -> str:
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value, names)}.{node.attr}"
    return ""


def _has_keyword(call: ast.Call, name: str, value: object) -> bool:
    return any(
        keyword.arg == name
        and isinstance(keyword.value, ast.Constant)
        and keyword.value.value is value
        for keyword in call.keywords
    )


def _constants(nodes: list[ast.expr | None], wanted: set[str]) -> list[str]:
    return [n.value for n in nodes if isinstance(n, ast.Constant) and n.value in wanted]


@pytest.mark.parametrize(
    "source",
    [
        "import pickle\npickle.load(f)",
        "import pickle as p\np.loads(b)",
        "from pickle import loads\nloads(b)",
        "import torch\ntorch.load(f)",
        "import torch\ntorch.load(f, weights_only=False)",
        "import yaml\nyaml.load(f, Loader=yaml.SafeLoader)",
        "import numpy as np\nnp.load(f, allow_pickle=True)",
        "import subprocess\nsubprocess.run('ls', shell=True)",
        "from os import system\nsystem('ls')",
        "with tarfile.open(f) as t:\n    t.extractall('.')",
        "t.extract(member)",
        "def serve(host='0.0.0.0'): ...",
        "def serve(*, host='0.0.0.0'): ...",
        "HOST = '0.0.0.0'",
        "HOST: str = '0.0.0.0'",
        "s.run(host='')",
        "option('0.0.0.0', '--host')",
        "eval(text)",
    ],
)
def test_forbidden_calls_are_found(source):
    assert len(violations(source)) >= 1


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load(f, weights_only=True)",
        "import yaml\nyaml.safe_load(f)",
        "network.eval()",
        "import numpy as np\nnp.load(f, allow_pickle=False)",
        "KNOWN = {'0.0.0.0': '127.0.0.1'}",
        "serve(host='127.0.0.1')",
        "uri.partition('::')",
    ],
)
def test_allowed_calls_pass(source):
    assert violations(source) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_the_source_does_nothing_that_is_forbidden(package):
    paths = sorted((ROOT / package).rglob("*.py"))
    wrong = {
        str(path.relative_to(ROOT)): found
        for path in paths
        if (found := violations(path.read_text(encoding="utf-8")))
    }
    assert not wrong
    assert paths or package == "vocabularies", "no file was found at all"


# --- hostile images ---------------------------------------------------------------------------


def png(width: int, height: int, *extra: bytes, rows: bytes = b"") -> bytes:
    """A grey PNG of one bit a pixel, with further chunks before its rows."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    body = _chunk(b"IHDR", header) + b"".join(extra) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _chunk(kind: bytes, content: bytes) -> bytes:
    crc = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)


@pytest.mark.parametrize("size", [(50_000, 50_000), (16_000, 16_000), (2**31 - 1, 16)])
def test_an_image_with_a_huge_header_size_is_not_decoded(size, monkeypatch):
    def load(self):
        raise AssertionError("its pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    with pytest.raises(ImageRejected) as rejected:
        decode(png(*size, rows=zlib.compress(bytes(1000))))
    assert rejected.value.reason in {TOO_LARGE, TOO_MANY_PIXELS}


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_an_image_whose_texts_unpack_to_a_hundred_megabytes_takes_no_memory(kind):
    packed = zlib.compress(bytes(100_000_000), 1)
    named = {b"zTXt": b"a\0\0", b"iTXt": b"a\0\1\0\0\0", b"iCCP": b"a\0\0"}[kind]
    row = b"\0" + b"\xff" * 4
    bomb = png(32, 32, _chunk(kind, named + packed), rows=zlib.compress(row * 32))
    assert len(bomb) < 1_000_000
    tracemalloc.start()
    try:
        with contextlib.suppress(ImageRejected):
            assert decode(bomb).image.size == (32, 32)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 50_000_000


def test_an_image_that_names_a_program_or_a_file_is_no_image():
    """PIL's readers of PostScript start one; ours know nine formats."""
    with pytest.raises(ImageRejected):
        decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n(%pipe%id) (r) file\n%%EOF\n")
    assert Image.MAX_IMAGE_PIXELS is not None


# --- secrets ------------------------------------------------------------------------------------

WITH_PASSWORD = [
    f"s3://AKIAKEY:{SECRET}@bucket/images",
    f"s3://AKIAKEY:{SECRET}/with+slashes=@bucket/images",
    f"https://user:{SECRET}@host/images.tar",
    f"https://{SECRET}@host/images.tar",
    f"ftp://user:{SECRET}@host:21/images",
    f"ftp://user:p@ss@{SECRET}@host/images",
    f"zip://a.jpg::https://user:{SECRET}@host/images.zip",
    f"memory://user:{SECRET}@host/images",
]
SIGNED = [
    f"https://bucket.s3.amazonaws.com/a.tar?X-Amz-Expires=60&X-Amz-Signature={SECRET}",
    f"https://account.blob.core.windows.net/a.tar?sv=2024&sig={SECRET}",
    f"https://host/a.tar?access_token={SECRET}#top",
]
HARMLESS = [
    "/home/user:name@host/images",
    "s3://bucket/user:name@host.jpg",
    "abfs://container@account.dfs.core.windows.net/images",
    "sftp://user@host/images",
    "s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/mine/a@b.jpg",
    "https://host/a@b.jpg?width=100&token_count=3",
    "https://host/a:b@c.jpg",
]


@pytest.mark.parametrize("uri", WITH_PASSWORD + SIGNED)
def test_secrets_are_masked_in_all_output_of_addresses(uri):
    assert SECRET not in display(uri)
    assert "***" in display(uri)
    sentence = masked(f"Cannot connect to {uri} (and '{uri}')")
    assert SECRET not in sentence
    assert sentence.startswith("Cannot connect to ")


@pytest.mark.parametrize("uri", WITH_PASSWORD + SIGNED)
@pytest.mark.parametrize("use", [ArtifactStore, lambda uri: open_sources([uri]), refuse_secrets])
def test_addresses_with_secrets_are_refused_without_printing_them(uri, use):
    with pytest.raises(ConfigError) as refused:
        use(uri)
    assert SECRET not in str(refused.value)
    assert "environment" in str(refused.value)


@pytest.mark.parametrize("uri", WITH_PASSWORD)
@pytest.mark.parametrize("read", [open_binary, lambda uri: read_range(uri, 0, 1)])
def test_nothing_is_read_from_an_address_with_a_password(uri, read):
    with pytest.raises(ConfigError) as refused:
        read(uri)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("uri", HARMLESS)
def test_addresses_without_secrets_stay_as_they_are(uri):
    assert display(uri) == uri
    assert not has_password(uri)
    refuse_secrets(uri)


def test_a_foreign_error_that_repeats_the_address_is_masked(monkeypatch):
    def refuse(*_, **__):
        raise ConnectionError(f"401, message='Unauthorized', url='https://u:{SECRET}@host/x'")

    monkeypatch.setattr("storage.files.filesystems.fsspec.filesystem", refuse)
    with pytest.raises(ZutisError) as failed:
        open_binary("https://host/x")
    assert SECRET not in str(failed.value)
    assert "Unauthorized" in str(failed.value)


@pytest.mark.parametrize("option", ["--corpus", "--store"])
def test_a_build_prints_no_secret(option, tmp_path, capsys, caplog, fake_clip):
    write_corpus(tmp_path / "images", ["red"], each=2)
    options = {"--corpus": str(tmp_path / "images"), "--store": str(tmp_path / "store")}
    options |= {"--vocabulary": str(write_vocabulary(tmp_path / "v.txt", ["red"]))}
    options |= {"--clip": "made-ViT-8:random:0", "--selfmask": "random:0"}
    options |= {option: f"memory://user:{SECRET}@host/x"}
    words = [word for pair in options.items() for word in pair]
    assert exit_code_of(lambda: run_command_line(["build", *words])) == 2
    printed = capsys.readouterr()
    assert "carries a password" in printed.err
    assert SECRET not in printed.out + printed.err + caplog.text
    assert not list(tmp_path.rglob("manifest.json"))


def test_a_table_with_a_password_leaves_none_of_it_in_the_store(
    tmp_path, fake_clip, fake_selfmask, caplog
):
    """The row is left out, under the table's name and its own number."""
    images = tmp_path / "images"
    write_corpus(images, ["red", "green"], each=3)
    uris = [str(path) for path in sorted(images.rglob("*.jpg"))]
    table = tmp_path / "table.csv"
    pyarrow.csv.write_csv(
        pa.table({"uri": [uris[0], f"https://user:{SECRET}@host/a.jpg", *uris[1:]]}), table
    )
    names = write_vocabulary(tmp_path / "v.txt", ["red", "green"])
    settings = changed(settings_of(table, names, tmp_path / "store"), per_category=2)
    store = ArtifactStore(settings.store)
    build(settings, LocalExecutor(store))
    [plan] = store.published("scan")
    assert plan.counts["rejects"] == {CREDENTIALS_IN_URI: 1}
    assert plan.counts["entries"] == len(uris)
    for text in everything_in(store):
        assert SECRET not in text
    assert SECRET not in caplog.text


def everything_in(store: ArtifactStore) -> Iterator[str]:
    """The content of every file, tables unpacked."""
    for path in Path(store.root).rglob("*"):
        if path.suffix == ".parquet":
            with path.open("rb") as file:
                yield str(read_parquet(file).to_pylist())
        elif path.is_file():
            yield path.read_bytes().decode("latin-1")


def test_the_search_of_a_builds_files_finds_what_is_there(tmp_path, fake_clip, fake_selfmask):
    """The search of the test above finds what is there: a harmless address."""
    name = f"images-{uuid.uuid4().hex[:8]}"
    write_corpus(tmp_path / name, ["red"], each=3)
    names = write_vocabulary(tmp_path / "v.txt", ["red"])
    settings = changed(settings_of(tmp_path / name, names, tmp_path / "store"), per_category=2)
    store = ArtifactStore(settings.store)
    build(settings, LocalExecutor(store))
    assert sum(name in text for text in everything_in(store)) >= 3
