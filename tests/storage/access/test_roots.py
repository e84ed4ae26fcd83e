"""Places outside the roots: refused from users, counted in rows and behind links."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest

from storage.access import roots
from storage.access.roots import ROOTS_VARIABLE, OutsideRootsError, as_setting
from storage.artifacts.store import ArtifactStore
from storage.corpora.corpus import list_corpus, open_sources
from storage.corpora.image_bytes import iter_entry, read_image_bytes
from storage.corpora.listing import Listing
from storage.errors.exceptions import ConfigError, ImageRejected, ZutisError
from storage.errors.reject_reasons import OUTSIDE_ROOTS
from storage.evaluation_sets.opening import open_evaluation_set
from storage.files import regular_files
from storage.files.filesystems import (
    exists,
    list_folder,
    open_binary,
    read_bytes,
    read_range,
    resolve,
)
from storage.files.json_files import load_json
from storage.files.user_files import ANNOTATIONS, VOCABULARY, read_path
from storage.images.records import write_parquet
from storage.vocabularies.vocabulary import load_vocabulary
from storage.weights.files import digest_of
from storage.weights.registry import parse_clip, parse_selfmask
from storage.weights.resolving import check
from storage.weights.resolving import resolve as resolve_weights
from tests.support.files.bad_images import jpeg, write
from tests.support.servers.bad_server import BadServer, bad_server


class Places:
    """A root, and beside it a folder with a longer name that runs must not use."""

    def __init__(self, folder: Path) -> None:
        self.root, self.outside = folder / "data", folder / "data-of-others"
        for place in (self.root, self.outside):
            (place / "images").mkdir(parents=True)
        write(self.root / "images/own.jpg", jpeg())
        self.secret = write(self.outside / "images/secret.jpg", jpeg())
        self.names = self.outside / "names.txt"
        self.names.write_text("red\ngreen\n")


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    made = Places(tmp_path)
    monkeypatch.setenv(ROOTS_VARIABLE, as_setting([str(made.root)]))
    monkeypatch.setenv("ZUTIS_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.chdir(made.root)
    return made


@pytest.fixture
def server() -> Iterator[BadServer]:
    with bad_server() as running:
        yield running


def reasons_of(listing: Listing) -> Counter[str]:
    return Counter(listing.rejects["reason"].to_pylist())


def names_of(listing: Listing) -> set[str]:
    return {uri.rpartition("/")[2] for uri in listing.entries["uri"].to_pylist()}


# --- what lies where -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("root", "inside", "out"),
    [
        (
            "s3://bucket/prefix/",
            ["s3://bucket/prefix", "s3a://bucket/prefix/a/b.jpg", "S3://bucket/prefix/x"],
            [
                "s3://bucket/prefix-2/a",
                "s3://bucket/prefix/../a",
                "s3://bucket/prefix/%2e%2e/a",
                "s3://bucket2/prefix/a",
                "gs://bucket/prefix/a",
                "s3://bucket",
            ],
        ),
        ("s3://bucket", ["s3://bucket/a", "s3://bucket/"], ["s3://bucket-2/a", "s3://"]),
        ("gcs://bucket/a", ["gs://bucket/a/b"], ["gs://bucket/b"]),
        ("abfs://box@account/a", ["az://box@account/a/b"], ["az://box/a/b"]),
        (
            "https://Host:443/a",
            ["https://host/a/b.jpg", "HTTPS://HOST/a/b?width=1", "https://host:443/a"],
            [
                "http://host/a/b.jpg",
                "https://host:8443/a/b",
                "https://host/ab",
                "https://host/a/../b",
                "https://host/a/%2e%2E/b",
                "https://host/a/%252e%252e/b",
                "https://host/a/..%2fb",
                "https://host/a/..\\b",
                "https://host/a/.\t./b",
                "https://host/a%2fb",
                "https://host//a/b",
                "https://host@evil/a/b",
                "https://evil\\@host/a/b",
                "https://host.evil/a/b",
                "https://host?/a/b",
                "http://169.254.169.254/latest/meta-data",
            ],
        ),
    ],
)
def test_addresses_lie_under_a_root_by_their_parts(
    root: str, inside: list[str], out: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(ROOTS_VARIABLE, as_setting([root]))
    assert not any(map(roots.is_address_outside, inside))
    assert all(map(roots.is_address_outside, out))
    assert roots.is_path_outside("/")


def test_paths_are_judged_by_their_real_paths(places: Places):
    (places.root / "out").symlink_to(places.outside)
    (places.outside / "in").symlink_to(places.root)
    (places.root / "broken").symlink_to(places.outside / "nothing")
    inside = [".", "images/own.jpg", places.root, places.root / "new/file", "../data/x"]
    out = ["..", "out", "out/images/secret.jpg", "broken", places.outside, "/", "../data-2"]
    assert not any(map(roots.is_path_outside, [*inside, places.outside / "in/images"]))
    assert all(map(roots.is_path_outside, out))


def test_a_root_may_be_everything_or_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(ROOTS_VARIABLE, as_setting(["/"]))
    assert not roots.is_path_outside(tmp_path)
    assert roots.is_address_outside("s3://bucket/a")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.setenv(ROOTS_VARIABLE, as_setting([str(tmp_path / "link")]))
    assert not roots.is_path_outside(tmp_path / "real/a")
    assert not roots.is_path_outside(tmp_path / "link/a")


@pytest.mark.parametrize("root", ["", " ", "no-folder", "https://a@b/c", "s3://bucket/../a"])
def test_an_invalid_root_is_refused(root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="root"):
        as_setting([root])


@pytest.mark.parametrize("setting", ["/data", "{}", "[1]", '[""]', "[", "[" * 10_000])
def test_a_setting_that_is_no_list_stops_everything(setting, tmp_path, monkeypatch):
    monkeypatch.setenv(ROOTS_VARIABLE, setting)
    with pytest.raises(ConfigError, match="no JSON list"):
        read_bytes(str(tmp_path))


def test_the_packages_files_and_caches_may_be_read_and_not_written(places: Places):
    assert load_vocabulary("coco").categories
    assert resolve_weights(parse_clip("made-ViT-8:demo")).path
    weights = places.root.parent / "weights"
    assert not roots.is_path_outside(weights / "nq20.pt")
    assert roots.is_path_outside(weights / "nq20.pt", written=True)


def test_a_folder_of_the_program_may_be_read_while_it_is_there(places: Places):
    with roots.own_folder(str(places.outside)), roots.own_folder(str(places.outside)):
        assert read_bytes(str(places.names))
    with pytest.raises(OutsideRootsError):
        read_bytes(str(places.names))


def test_a_digest_that_is_remembered_opens_no_way(places: Places, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as without:
        without.delenv(ROOTS_VARIABLE)
        digest_of(places.secret)
    with pytest.raises(OutsideRootsError):
        digest_of(places.secret)


# --- what a user names ---------------------------------------------------------------------------

Use = Callable[[Places], object]
NAMED: dict[str, Use] = {
    "folder": lambda p: open_sources([str(p.outside)]),
    "nothing there": lambda p: open_sources([str(p.outside / "nothing")]),
    "dots": lambda p: open_sources(["images/../../data-of-others"]),
    "image": lambda p: open_sources([str(p.secret)]),
    "pattern": lambda p: open_sources([f"{p.outside}/*/*.jpg"]),
    "pattern with dots": lambda p: open_sources(["*/../../data-of-others/images/*.jpg"]),
    "braces": lambda p: open_sources(["{images,../data-of-others}/*.jpg"]),
    "web": lambda p: open_sources(["http://169.254.169.254/latest/a.tar"]),
    "bucket": lambda p: open_sources(["s3://bucket/images"]),
    "memory": lambda p: open_sources(["memory://images"]),
    "store": lambda p: ArtifactStore(str(p.outside / "store")),
    "store in the weights": lambda p: ArtifactStore(str(p.root.parent / "weights")),
    "store in memory": lambda p: ArtifactStore("memory://store"),
    "vocabulary": lambda p: load_vocabulary(str(p.names)),
    "no vocabulary": lambda p: load_vocabulary(str(p.outside / "nothing.txt")),
    "weights": lambda p: resolve_weights(parse_selfmask(str(p.outside / "a.pt"))),
    "weights of CLIP": lambda p: resolve_weights(parse_clip(f"ViT-B-32:{p.outside / 'a.pt'}")),
    "folder of a model": lambda p: resolve_weights(parse_clip(f"local-dir:{p.outside}")),
    "checked": lambda p: check(str(p.outside / "a.pt")),
    "checked folder": lambda p: check(str(p.outside)),
    "coco": lambda p: open_evaluation_set(f"coco:{p.outside}/a.json", None),
    "coco's images": lambda p: open_evaluation_set(f"coco:a.json@{p.outside}", None),
    "folders": lambda p: open_evaluation_set(f"folder:{p.outside}+{p.root}", None),
    "labels": lambda p: open_evaluation_set(f"folder:{p.root}+{p.outside}", None),
    "all data": lambda p: open_evaluation_set("coca", p.outside),
    "bytes": lambda p: read_bytes(str(p.secret)),
    "range": lambda p: read_range(str(p.secret), 0, 1),
    "stream": lambda p: open_binary(f"file://{p.secret}"),
    "file system": lambda p: resolve(str(p.secret)),
    "listing": lambda p: list_folder(str(p.outside)),
    "file": lambda p: read_path(p.names, VOCABULARY),
    "JSON": lambda p: load_json(str(p.outside / "a.json"), ANNOTATIONS),
}


@pytest.mark.parametrize("use", NAMED.values(), ids=NAMED.keys())
def test_places_outside_are_refused_before_anything_is_read(
    use: Use, places: Places, monkeypatch: pytest.MonkeyPatch
):
    opened: list[str] = []
    monkeypatch.setattr(regular_files.os, "open", lambda path, *_: opened.append(str(path)))
    with pytest.raises(OutsideRootsError, match=f"({places.root}).*--root") as refused:
        use(places)
    assert len(str(refused.value).splitlines()) == 1
    assert opened == []


@pytest.mark.parametrize("name", sorted(NAMED.keys() - {"web", "bucket"}))  # these need a network
def test_without_roots_nothing_is_outside(
    name: str, places: Places, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv(ROOTS_VARIABLE)
    use = NAMED[name]
    # Not suppressed below.
    monkeypatch.setattr("storage.access.roots.OutsideRootsError", ZeroDivisionError)
    with contextlib.suppress(ZutisError, OSError):
        use(places)


# --- what rows and links name --------------------------------------------------------------------


def test_rows_of_tables_are_counted_and_the_others_read(places: Places):
    (places.root / "link.jpg").symlink_to(places.secret)
    rows = [
        "images/own.jpg",
        "../data-of-others/images/secret.jpg",
        str(places.secret),
        f"file://{places.secret}",
        "link.jpg",
        "/etc/hostname",
        "http://169.254.169.254/latest/meta-data",
        "https://host/a.jpg",
        "s3://bucket/a.jpg",
    ]
    write_parquet(pa.table({"uri": rows}), places.root / "t.parquet")
    (places.root / "t.txt").write_text("\n".join(rows))
    for name in ("t.parquet", "t.txt"):
        listing = list_corpus([name])
        assert names_of(listing) == {"own.jpg"}
        # All but the first; one file under three names is one reject.
        assert reasons_of(listing) == {OUTSIDE_ROOTS: len(rows) - 3}


def test_images_of_coco_files_are_counted(places: Places):
    names = ["images/own.jpg", "../data-of-others/images/secret.jpg", str(places.secret)]
    text = ", ".join(f'{{"id": {n}, "file_name": "{name}"}}' for n, name in enumerate(names))
    (places.root / "a.json").write_text(f'{{"images": [{text}]}}')
    listing = list_corpus(["a.json"])
    assert names_of(listing) == {"own.jpg"}
    assert set(reasons_of(listing)) == {OUTSIDE_ROOTS}


def test_a_coco_file_with_all_images_outside_lists_only_rejects(places: Places):
    (places.root / "a.json").write_text(
        f'{{"images": [{{"id": 1, "file_name": "{places.secret}"}}]}}'
    )
    listing = list_corpus(["a.json"])
    assert not names_of(listing)
    assert reasons_of(listing) == {OUTSIDE_ROOTS: 1}


@pytest.mark.parametrize("spec", [".", "**/*.jpg", "images", "images/*", "**"])
def test_links_that_lead_outside_are_counted_and_not_followed(spec: str, places: Places):
    images = places.root / "images"
    (images / "link.jpg").symlink_to(places.secret)
    (images / "folder").symlink_to(places.outside)
    (images / "inner.jpg").symlink_to(images / "own.jpg")
    if spec == "images/*":
        (images / "folder").unlink()  # what a pattern names itself is refused
    listing = list_corpus([spec])
    assert names_of(listing) == {"own.jpg", "inner.jpg"}
    assert set(reasons_of(listing)) == {OUTSIDE_ROOTS}
    named = listing.rejects["uri"].to_pylist() + listing.entries["uri"].to_pylist()
    assert not any("secret" in uri for uri in named), "places outside are not named"


def test_a_folder_that_a_pattern_names_outside_is_refused(places: Places):
    (places.root / "folder").symlink_to(places.outside)
    with pytest.raises(OutsideRootsError):
        open_sources(["*"])


def test_a_link_that_is_exchanged_after_the_listing_is_a_reject(places: Places):
    own = places.root / "images/own.jpg"
    own.unlink()
    own.symlink_to(places.secret)
    [image] = iter_entry(str(own), "image")
    assert (image.data, image.reject_reason) == (None, OUTSIDE_ROOTS)
    with pytest.raises(ImageRejected) as rejected:
        read_image_bytes(str(own), -1, -1)
    assert rejected.value.reason == OUTSIDE_ROOTS
    own.rename(own.with_suffix(".tar"))
    [tar] = iter_entry(str(own.with_suffix(".tar")), "tar")
    assert (tar.data, tar.reject_reason) == (None, OUTSIDE_ROOTS)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no way to an open file's path")
def test_a_link_that_is_exchanged_between_look_and_open_is_seen(
    places: Places, monkeypatch: pytest.MonkeyPatch
):
    own = places.root / "images/own.jpg"
    really = os.open

    def exchanged(path: str, flags: int) -> int:
        own.unlink()
        own.symlink_to(places.secret)
        return really(path, flags)

    monkeypatch.setattr(regular_files.os, "open", exchanged)
    with pytest.raises(OutsideRootsError):
        read_bytes(str(own))


def test_places_outside_do_not_exist(places: Places):
    assert not exists(str(places.secret))
    assert not exists("memory://a")
    assert exists("images/own.jpg")


# --- web servers ---------------------------------------------------------------------------------


def test_a_web_server_as_a_root_is_read_without_leaving_it(
    places: Places, server: BadServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(ROOTS_VARIABLE, as_setting([str(places.root), server.url("/images")]))
    server.scripts |= {
        "/images/a.jpg": [b"an image"],
        "/images/near.jpg": [(302, {"Location": "a.jpg"})],
        "/images/up.jpg": [(302, {"Location": "../secret.jpg"})],
        "/images/away.jpg": [(307, {"Location": "http://localhost:1/secret.jpg"})],
        "/images/twice.jpg": [(301, {"Location": "/images/up.jpg"})],
        "/secret.jpg": [b"a secret"],
    }
    assert read_bytes(server.url("/images/a.jpg")) == b"an image"
    assert read_bytes(server.url("/images/near.jpg")) == b"an image"
    for name in ("up", "away", "twice"):
        uri = server.url(f"/images/{name}.jpg")
        with pytest.raises(OutsideRootsError):
            read_bytes(uri)
        assert not exists(uri)
        [image] = iter_entry(uri, "image")
        assert (image.data, image.reject_reason) == (None, OUTSIDE_ROOTS)
    assert "/secret.jpg" not in server.asked
    assert server.times["/images/up.jpg"] == 6, "no answer that may pass: asked once each time"


def test_a_store_in_memory_can_be_a_root(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(ROOTS_VARIABLE, as_setting(["memory://store"]))
    fsspec.filesystem("memory").pipe("/store/a", b"a")
    assert ArtifactStore("memory://store").stages() is not None
    assert read_bytes("memory://store/a") == b"a"
