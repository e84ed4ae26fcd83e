"""Corpus and store on a real S3 API: moto's server on a loopback port, with credentials from the
environment only."""

from __future__ import annotations

import io
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from flows.execution.executors import NotCached
from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import ArtifactRef, ArtifactStore
from storage.corpora.corpus import list_source, open_sources
from storage.corpora.image_bytes import iter_entry, read_image_bytes
from storage.errors.exceptions import ArtifactError, StorageError
from storage.files.filesystems import (
    MissingFileError,
    ShortReadError,
    UnreachableError,
    exists,
    read_bytes,
    read_range,
)
from tasks.packing.record_build import NAME as RECORD
from tests.support.files.bad_images import jpeg, palette_png
from tests.support.files.coloured_images import coloured_image, write_corpus
from tests.support.networks.fakes import FakeClip, FakeSelfMask
from tests.support.runs.builds import (
    build_cached,
    build_here,
    contents,
    settings_of,
    write_vocabulary,
)
from tests.support.servers.s3_server import PASSWORD, s3_server, url_of, using_s3

pytestmark = pytest.mark.slow

COLOURS = ["red", "green", "blue"]


class Bucket:
    """A bucket of the server, and the requests that the server has answered.

    Attributes:
        uri: of the bucket.
        requests: method and path of each, in order.
        ranges: the requested byte ranges, by path.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.requests: list[tuple[str, str]] = []
        self.ranges: list[tuple[str, str]] = []

    def count(self) -> Counter[str]:
        return Counter(method for method, _ in self.requests)

    def forget(self) -> None:
        self.requests.clear()
        self.ranges.clear()


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    """An empty bucket; s3fs reads address and credentials from the environment."""
    with s3_server() as server, using_s3(url_of(server)):
        import fsspec

        found = Bucket("s3://images")
        _watch(server, found)
        fsspec.filesystem("s3").mkdir("images")
        yield found


def _watch(server: Any, bucket: Bucket) -> None:
    application = server._server.app

    def watching(environ: dict[str, Any], start_response: Any) -> Any:
        bucket.requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
        if asked := environ.get("HTTP_RANGE"):
            bucket.ranges.append((environ["PATH_INFO"], asked))
        return application(environ, start_response)

    server._server.app = watching


@pytest.fixture
def place(bucket: Bucket, request: pytest.FixtureRequest) -> str:
    """A folder of the bucket for this test alone."""
    bucket.forget()
    return f"{bucket.uri}/{request.node.name.split('[')[0]}"


def put(uri: str, data: bytes) -> str:
    import fsspec

    file_system, path = fsspec.core.url_to_fs(uri)
    file_system.pipe_file(path, data)
    return uri


def tar_of(images: Sequence[tuple[str, int]]) -> bytes:
    """A tar of one JPEG for each colour and seed."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for colour, seed in images:
            jpeg = io.BytesIO()
            coloured_image(colour, seed).save(jpeg, "JPEG", quality=92)
            info = tarfile.TarInfo(f"{colour}-{seed:03d}.jpg")
            info.size = jpeg.tell()
            tar.addfile(info, io.BytesIO(jpeg.getvalue()))
    return packed.getvalue()


def recipe() -> Recipe:
    return Recipe(stage="thing", version=1, config={})


def test_ranges_of_objects(place: str, bucket: Bucket):
    uri = put(f"{place}/x.bin", b"0123456789")
    assert read_range(uri, 2, 3) == b"234"
    assert bucket.ranges[-1][1] == "bytes=2-4"
    assert exists(uri)
    for offset in (8, 10, 50):  # a server sends the bytes that exist, or refuses if there are none
        with pytest.raises(ShortReadError, match=r"the file ends"):
            read_range(uri, offset, 5)
    with pytest.raises(MissingFileError):
        read_range(f"{place}/none.bin", 2, 3)
    assert not exists(f"{place}/none.bin")


def test_a_folder_of_objects_is_listed_by_reading_few_of_them(place: str, bucket: Bucket):
    names = ["a.jpg", "b.jpg", "b.png", "c", "README", "empty", "d.png"]
    contents = [jpeg(), jpeg(1), palette_png(), jpeg(2), b"text", b"", palette_png(1)]
    for name, data in zip(names, contents, strict=True):
        put(f"{place}/{name}", data)
    bucket.forget()
    [source] = open_sources([place])
    listing = list_source(source)
    assert [uri.rpartition("/")[2] for uri in listing.entries["uri"].to_pylist()] == [
        "a.jpg", "b.jpg", "c", "d.png",
    ]  # fmt: skip
    assert listing.ignored == {"": 2, "label map": 1}
    assert {path.rpartition("/")[2] for path, _ in bucket.ranges} == {"README", "b.png", "c"}


def test_matches_of_a_pattern_need_no_request_each(place: str, bucket: Bucket):
    for name in ("a.jpg", "x/b.jpg", "x/y/c.jpg", "x/n.txt", ".cache/d.jpg"):
        put(f"{place}/{name}", b"123")
    bucket.forget()
    [source] = open_sources([f"{place}/**/*.jpg"])
    listing = list_source(source)
    assert [uri.removeprefix(f"{place}/") for uri in listing.entries["uri"].to_pylist()] == [
        "a.jpg", "x/b.jpg", "x/y/c.jpg",
    ]  # fmt: skip
    assert listing.ignored == {"hidden file": 1}
    assert set(listing.entries["size"].to_pylist()) == {3}
    assert all(listing.entries["version"].to_pylist())
    assert not [path for method, path in bucket.requests if method == "HEAD" and ".jpg" in path
                and "*" not in path]  # fmt: skip


def test_members_of_tars_are_read_by_range_and_never_as_a_whole(place: str, bucket: Bucket):
    uri = put(f"{place}/x.tar", tar_of([("red", 1), ("blue", 2)]))
    first, second = iter_entry(uri, "tar")
    bucket.forget()
    assert read_image_bytes(uri, second.offset, second.length) == second.data
    assert read_image_bytes(uri, first.offset, first.length) == first.data
    end = second.offset + second.length - 1
    assert bucket.ranges[0] == ("/" + uri.removeprefix("s3://"), f"bytes={second.offset}-{end}")
    assert bucket.count() == {"GET": 2}


def test_the_manifest_is_written_last_and_never_over_another(place: str, bucket: Bucket):
    store = ArtifactStore(place)
    ref = ArtifactRef("thing", "k1")
    with store.attempt(ref) as attempt:
        attempt.create_json("a.json", [1])
        assert store.find(ref) is None
        first = store.publish(attempt, recipe())
    written = [path for method, path in bucket.requests if method == "PUT"]
    assert written[-1].endswith("/thing/k1/manifest.json")
    with store.attempt(ref) as late:
        late.create_json("a.json", [2])
        assert store.publish(late, recipe()).manifest == first.manifest
    assert store.get(ref).read_json("a.json") == [1]
    assert store.attempts(ref) == [attempt.name]


def test_of_many_that_publish_at_once_one_wins_and_the_others_leave_nothing(place: str):
    ref = ArtifactRef("thing", "k1")

    def publish(number: int) -> str:
        store = ArtifactStore(place)  # as if on a machine of its own
        with store.attempt(ref) as attempt:
            attempt.create_json("number.json", number)
            return str(store.publish(attempt, recipe()).manifest["attempt"])

    with ThreadPoolExecutor(8) as pool:
        winners = set(pool.map(publish, range(8)))
    assert len(winners) == 1
    assert ArtifactStore(place).attempts(ref) == sorted(winners)


def test_the_server_itself_refuses_a_second_manifest(place: str):
    """Locks don't work between machines: the write must be conditional."""
    import fsspec

    file_system, path = fsspec.core.url_to_fs(f"{place}/manifest.json")
    file_system.pipe_file(path, b"1", mode="create")
    with pytest.raises(FileExistsError):
        file_system.pipe_file(path, b"2", mode="create")


def test_an_object_that_changed_is_noticed(place: str):
    store = ArtifactStore(place)
    ref = ArtifactRef("thing", "k1")
    with store.attempt(ref) as attempt:
        attempt.create_json("a.json", [1])
        artifact = store.publish(attempt, recipe())
    put(artifact.uri("a.json"), b"[2]")
    with pytest.raises(ArtifactError, match="--repair"):
        ArtifactStore(place).get(ref).read_json("a.json")


def test_a_server_that_is_down_is_not_a_missing_object(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
):
    from tests.support.servers.loopback import unreachable_url

    monkeypatch.setenv("AWS_ENDPOINT_URL", unreachable_url(""))
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    import fsspec

    fsspec.filesystem("s3").clear_instance_cache()
    try:
        with pytest.raises(UnreachableError) as caught:
            read_bytes("s3://images/x.bin")
    finally:
        fsspec.filesystem("s3").clear_instance_cache()
    assert PASSWORD not in str(caught.value)


def test_a_bucket_that_refuses_is_an_error_of_one_sentence(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(StorageError, match=r"^[^\n]*\.$") as caught:
        ArtifactStore("s3://no-such-bucket").attempt(ArtifactRef("a", "b")).__enter__().create_json(
            "x.json", 1
        )
    assert PASSWORD not in str(caught.value)


def test_a_build_from_tars_on_s3_to_a_store_on_s3(
    place: str,
    bucket: Bucket,
    tmp_path: Path,
    fake_clip: FakeClip,
    fake_selfmask: FakeSelfMask,
):
    images = [(colour, seed) for colour in COLOURS for seed in range(4)]
    put(f"{place}/corpus/a.tar", tar_of(images[:7]))
    put(f"{place}/corpus/b.tar", tar_of(images[7:]))
    vocabulary = write_vocabulary(tmp_path / "colours.txt", COLOURS)
    remote = settings_of(f"{place}/corpus", vocabulary, f"{place}/store")
    built = build_here(remote)
    assert built.dataset.location.startswith(f"{place}/store/")
    assert built.index.counts["images"] == 12
    assert any(path.endswith(".tar") for path, _ in bucket.ranges), "members are read by range"

    asked = fake_clip.calls + fake_selfmask.calls
    bucket.forget()
    again = build_cached(remote)
    assert again.dataset.manifest == built.dataset.manifest
    assert fake_clip.calls + fake_selfmask.calls == asked
    assert set(bucket.count()) == {"GET", "HEAD"}, "nothing is written"
    assert bucket.count().total() < 150

    everything = contents(remote.store)
    assert PASSWORD not in repr(everything)
    for stage in ArtifactStore(remote.store).stages():
        for artifact in ArtifactStore(remote.store).published(stage):
            assert artifact.problems(deep=True) == []
            assert PASSWORD not in str(artifact.manifest)


def test_artifacts_do_not_depend_on_the_place_of_store_and_corpus(
    place: str, tmp_path: Path, fake_clip: FakeClip, fake_selfmask: FakeSelfMask
):
    """A folder of images gives the same bytes from a local disk and from S3."""
    write_corpus(tmp_path / "images", COLOURS, each=3)
    vocabulary = write_vocabulary(tmp_path / "colours.txt", COLOURS)
    here = settings_of(tmp_path / "images", vocabulary, tmp_path / "store")
    there = settings_of(tmp_path / "images", vocabulary, f"{place}/store")
    built = build_here(here)
    assert build_here(there).dataset.files == built.dataset.files
    assert contents(there.store) == contents(here.store)


def test_a_build_that_lost_a_part_goes_on(
    place: str, tmp_path: Path, fake_clip: FakeClip, fake_selfmask: FakeSelfMask
):
    write_corpus(tmp_path / "images", COLOURS, each=3)
    vocabulary = write_vocabulary(tmp_path / "colours.txt", COLOURS)
    settings = settings_of(tmp_path / "images", vocabulary, f"{place}/store")
    built = build_here(settings)
    before = contents(settings.store)
    store = ArtifactStore(settings.store)
    for ref in (built.embedded[0].ref, built.record.ref):
        store.delete(ref)
    assert built.record.ref.stage == RECORD
    with pytest.raises(NotCached):
        build_cached(settings)
    images = fake_clip.calls["images"]
    assert build_here(settings).dataset.manifest == built.dataset.manifest
    assert fake_clip.calls["images"] - images == built.embedded[0].counts["images"]
    assert contents(settings.store) == before


def test_requests_of_a_part_and_an_image(
    place: str, bucket: Bucket, tmp_path: Path, fake_clip: FakeClip, fake_selfmask: FakeSelfMask
):
    """The numbers that `benchmarks.scale_model` calculates with."""
    from benchmarks.scale_model import (
        CACHED_REQUESTS_A_PART,
        REQUESTS_A_PART,
        REQUESTS_A_READ,
    )

    for path in write_corpus(tmp_path / "images", COLOURS, each=4):
        put(f"{place}/corpus/{path.name}", path.read_bytes())
    vocabulary = write_vocabulary(tmp_path / "colours.txt", COLOURS)

    def requests(name: str, part_images: int, mask_part_images: int) -> tuple[int, int, int]:
        """Requests of a build, of its cached repetition, and of the build for images."""
        settings = settings_of(
            f"{place}/corpus", vocabulary, f"{place}/{name}", part_images=part_images,
            mask_part_images=mask_part_images, shard_mb=100,
        )  # fmt: skip
        bucket.forget()
        build_here(settings)
        all_of_them = len(bucket.requests)
        images = sum(path.endswith(".jpg") for _, path in bucket.requests)
        bucket.forget()
        build_cached(settings)
        return all_of_them, len(bucket.requests), images

    few, few_cached, images = requests("few", 6, 12)
    more, more_cached, _ = requests("more-embedding", 3, 12)
    masks, masks_cached, _ = requests("more-masks", 6, 3)
    assert (more - few) / 2 == REQUESTS_A_PART["embed_images"]
    assert (masks - few) / 3 == REQUESTS_A_PART["make_masks"]
    assert (more_cached - few_cached) / 2 == CACHED_REQUESTS_A_PART["embed_images"]
    assert (masks_cached - few_cached) / 3 == CACHED_REQUESTS_A_PART["make_masks"]
    assert images == 3 * 12 * REQUESTS_A_READ, "embedded, masked and packed"
