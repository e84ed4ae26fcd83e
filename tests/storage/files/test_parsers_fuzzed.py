"""Parsers of users' files on nearly valid files: an error for users, or a result."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

from storage.annotations.label_maps import (
    BinaryCoding,
    LabelCoding,
    LabelMapGroundTruth,
    MaskCoding,
    index_values,
    own_values,
)
from storage.artifacts.leases import leases
from storage.artifacts.store import ArtifactStore
from storage.corpora.coco import image_ids, image_ids_by_uri
from storage.corpora.corpus import list_corpus
from storage.corpora.duplicate_groups import read_groups
from storage.corpora.image_bytes import iter_entry, read_image_bytes
from storage.corpora.selection import Selection
from storage.corrections.reading import read_corrected
from storage.evaluation_sets.coco20k import open_coco20k
from storage.evaluation_sets.cub import open_cub200
from storage.evaluation_sets.opening import open_evaluation_set
from storage.evaluation_sets.voc import open_voc2012_val
from storage.files.yaml_files import load_plain_yaml
from storage.images.records import read_parquet
from storage.shards.samples import ShardSamples
from storage.vocabularies.category_splits import expand_names
from storage.vocabularies.vocabulary import load_vocabulary
from storage.weights import files
from storage.weights.files import digest_of
from storage.weights.hub_folders import read_hub_record
from storage.weights.model_folders import open_model_folder
from storage.weights.registry import parse_clip, parse_selfmask, published
from storage.weights.resolving import check, read_record, resolve
from storage.weights.state_dicts import load_state_dict
from tests.support.files.evaluation_layouts import annotation, box, runs
from tests.support.files.fuzzing import as_bytes, as_lines, damaged, few, harmless, near_json, texts
from tests.support.files.small_artifacts import REF
from tests.support.files.small_datasets import stored_sample, write_dataset

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which each example overwrites the files of the last."""
    return tmp_path_factory.mktemp("fuzzed")


@pytest.fixture(autouse=True)
def own_weights(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Use the examples' folder as the cache of records and digests."""
    monkeypatch.setenv("ZUTIS_WEIGHTS", str(folder))


# --- vocabularies -------------------------------------------------------------------------------

VOCABULARY = {
    "name": "birds",
    "categories": [
        "owl",
        {"name": "kite", "synonyms": ["red kite"], "prompts": ["a {} in the sky"], "id": 7},
        {"name": "crow", "id": "n0123"},
    ],
}


@few(50)
@given(near_json(VOCABULARY))
def test_vocabularies_in_yaml(folder: Path, content: bytes) -> None:
    (folder / "v.yaml").write_bytes(content)  # JSON is YAML
    found = harmless(lambda: load_vocabulary(str(folder / "v.yaml")))
    if found is not None:
        json.dumps([vars(each) for each in found.categories], ensure_ascii=False).encode()


@few(100)
@given(damaged(b"owl\nkite # no\n\n# two\nsnow goose\n") | st.lists(texts).map(as_lines))
def test_vocabularies_in_lines(folder: Path, content: bytes) -> None:
    (folder / "v.txt").write_bytes(content)
    harmless(lambda: load_vocabulary(str(folder / "v.txt")))


@few(60)
@given(texts)
def test_names_of_everything(text: str) -> None:
    for read in (load_vocabulary, parse_clip, parse_selfmask, published, check):
        harmless(lambda read=read: read(text))
    harmless(lambda: resolve(parse_clip(text)))
    for start in ("coco:", "folder:", "folder:a+", "", "random:", "ViT-B-32:random:", "hf-hub:a/"):
        harmless(lambda start=start: open_evaluation_set(start + text, Path("/none")))
        harmless(lambda start=start: resolve(parse_clip(start + text)))
        harmless(lambda start=start: resolve(parse_selfmask(start + text)))
    harmless(lambda: expand_names([text]))
    harmless(lambda: Selection.of([text], [text]).takes("a/b.jpg"))


@few(50)
@given(st.lists(texts, min_size=1, max_size=2), texts)
def test_corpora_by_any_name(specs: list[str], column: str) -> None:
    harmless(lambda: list_corpus(specs, uri_column=column))


# --- tables and lists ---------------------------------------------------------------------------

ROW = {"uri": "a.jpg", "size": 3, "etag": "x"}


@few(100)
@given(st.lists(near_json(ROW), max_size=3), texts)
def test_json_lines(folder: Path, rows: list[bytes], column: str) -> None:
    (folder / "t.jsonl").write_bytes(b'{"uri": "b.jpg"}\n' + b"\n".join(rows))
    harmless(lambda: list_corpus([str(folder / "t.jsonl")]))
    (folder / "t.jsonl").write_bytes(b"\n".join(rows))
    harmless(lambda: list_corpus([str(folder / "t.jsonl")], uri_column=column))


GROUPED = {"image_id": "0" * 64, "group": 3, "path": "a.jpg"}


@few(60)
@given(st.lists(near_json(GROUPED), max_size=3), damaged(b"path,group\na.jpg,1\nb.jpg,1\n"))
def test_groups_of_duplicates(folder: Path, rows: list[bytes], table: bytes) -> None:
    (folder / "g.jsonl").write_bytes(b"\n".join(rows))
    (folder / "g.csv").write_bytes(table)
    for name in ("g.jsonl", "g.csv"):
        harmless(lambda name=name: read_groups(str(folder / name)))


@few(100)
@given(st.lists(texts, max_size=4))
def test_lists_of_places(folder: Path, lines: list[str]) -> None:
    (folder / "t.txt").write_bytes(as_lines(lines))
    harmless(lambda: list_corpus([str(folder / "t.txt")]))


CSV = b'uri,size,etag\na.jpg,3,x\n"b ""c"".jpg",4,\nhttps://host/d.png,,y\n'


@few(100)
@given(
    damaged(CSV)
    | st.lists(st.lists(texts, min_size=1, max_size=3), min_size=1, max_size=3).map(
        lambda rows: b"uri,size\n" + as_lines(list(map(",".join, rows)))
    ),
    st.sampled_from(["csv", "tsv"]),
    texts,
)
def test_tables_in_text(folder: Path, content: bytes, ending: str, column: str) -> None:
    (folder / f"t.{ending}").write_bytes(content)
    harmless(lambda: list_corpus([str(folder / f"t.{ending}")]))
    harmless(lambda: list_corpus([str(folder / f"t.{ending}")], uri_column=column))


COLUMNS = [
    pa.array(["a.jpg", "b.jpg"]), pa.array([b"a.jpg", b"\xed\xa0\x80.jpg"]), pa.array([1, 2**62]),
    pa.array([1.5, float("nan")]), pa.array([None, None]), pa.array([["a"], []]),
    pa.array(["a", "a"]).dictionary_encode(), pa.array(["a.jpg", None], pa.large_string()),
    pa.array([{"a": 1}, None]), pa.array(["a\0b", "memory://\0"]), pa.array(["s3://", "zip://a::b"]),
    pa.array([0, 2**64 - 1], pa.uint64()), pa.array([True, False]),
    pa.array(["http://[", "http://a:b"]), pa.array(["~x/y", "file:///%ff%00"]),
    # A lone surrogate is not valid UTF-8, and Arrow does not check.
    pa.StringArray.from_buffers(
        2, pa.py_buffer(np.array([0, 3, 3], np.int32)), pa.py_buffer(b"\xed\xa0\x80")
    ),
]  # fmt: skip


@few(150)
@given(
    st.lists(
        st.tuples(st.sampled_from(["uri", "url", "URL", "size", "etag", "x", ""]),
                  st.sampled_from(COLUMNS)), min_size=1, max_size=4),
    st.sampled_from(["", "uri", "x", "size"]),
)  # fmt: skip
def test_parquet_of_any_columns(folder: Path, columns: Any, column: str) -> None:
    table = pa.Table.from_arrays([each for _, each in columns], [name for name, _ in columns])
    pq.write_table(table, folder / "t.parquet")
    harmless(lambda: list_corpus([str(folder / "t.parquet")], uri_column=column))
    grouped = table.rename_columns(
        ["group" if name == "x" else name for name in table.column_names]
    )
    pq.write_table(grouped, folder / "g.parquet")
    harmless(lambda: read_groups(str(folder / "g.parquet")))


@few(100)
@given(st.data())
def test_parquet_that_is_damaged(folder: Path, data: st.DataObject) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"uri": ["a.jpg", "b.jpg"] * 50, "size": [1, 2] * 50}), buffer)
    (folder / "t.parquet").write_bytes(data.draw(damaged(buffer.getvalue())))
    harmless(lambda: list_corpus([str(folder / "t.parquet")]))
    harmless(lambda: read_parquet(folder / "t.parquet"))


# --- COCO ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def coco(folder: Path) -> dict[str, Any]:
    """A valid file, whose images exist."""
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 6)).save(folder / name)
    mask = np.zeros((6, 8), dtype=bool)
    mask[1:3, 2:5] = True
    return {
        "images": [
            {"id": 1, "file_name": "a.png", "height": 6, "width": 8},
            {"id": 2, "file_name": "b.png", "height": 6, "width": 8},
        ],
        "categories": [{"id": 1, "name": "owl"}, {"id": 9, "name": "Background"}],
        "annotations": [
            {"id": 1, **annotation(1, 1, box(1, 1, 5, 5), area=16.0)},
            {"id": 2, **annotation(2, 1, runs(mask), area=6.0, iscrowd=1)},
            {"id": 3, **annotation(2, 9, {"size": [6, 8], "counts": "W1200"}, area=1)},
        ],
    }


@few(120)
@given(st.data())
def test_coco_files(folder: Path, coco: dict[str, Any], data: st.DataObject) -> None:
    file = folder / "c.json"
    file.write_bytes(data.draw(near_json(coco)))
    harmless(lambda: list_corpus([str(file)]))
    harmless(lambda: image_ids(str(file)))
    harmless(lambda: image_ids_by_uri(str(file)))
    harmless(lambda: read_corrected(str(file)))
    for skip_bad in (False, True):
        harmless(lambda skip_bad=skip_bad: _all_truth(f"coco:{file}", skip_bad))
        harmless(lambda skip_bad=skip_bad: _all_truth(f"coco:{file}@{folder}", skip_bad))


TASKS = [
    {
        "data": {"image": "a.png"},
        "annotations": [{"was_cancelled": False, "result": [
            {"id": "r", "original_width": 8, "original_height": 6,
             "value": {"rle": [0, 0, 0, 192, 58, 231, 240], "brushlabels": ["owl"]}},
            {"id": "s", "original_width": 8, "original_height": 6,
             "value": {"points": [[1, 1], [90, 5], [50, 80]], "polygonlabels": ["owl"]}},
        ]}],
    }
]  # fmt: skip


@few(120)
@given(near_json(TASKS))
def test_tasks_of_label_studio(folder: Path, content: bytes) -> None:
    (folder / "t.json").write_bytes(content)
    harmless(lambda: read_corrected(str(folder / "t.json")))


CVAT = b"""<annotations><image id="0" name="a.png" width="8" height="6">
<polygon label="owl" points="2,1;7,1;7,4" group_id="1"/>
<mask label="owl" rle="2, 5, 8" left="1" top="1" width="5" height="3"/>
</image></annotations>"""


@few(120)
@given(damaged(CVAT))
def test_files_of_cvat(folder: Path, content: bytes) -> None:
    (folder / "t.xml").write_bytes(content)
    harmless(lambda: read_corrected(str(folder / "t.xml")))


def _all_truth(spec: str, skip_bad: bool) -> None:
    found = open_evaluation_set(spec, None, skip_bad=skip_bad)
    found.digest()
    for image in found.images:
        harmless(image.read)
        harmless(image.labels)
        harmless(image.instances)


# --- published data sets ------------------------------------------------------------------------


@few(100)
@given(damaged(b"1 001.Owl\n2 002.Kite\n"), damaged(b"1 001.Owl/a.jpg\n2 002.Kite/b.jpg\n"),
       damaged(b"1 0\n2 1\n"))  # fmt: skip
def test_lists_of_cub(folder: Path, classes: bytes, images: bytes, split: bytes) -> None:
    for name, content in (("classes", classes), ("images", images), ("train_test_split", split)):
        (folder / f"{name}.txt").write_bytes(content)
    harmless(lambda: open_cub200("cub200", folder))


@few(60)
@given(damaged(b"COCO_train2014_000000000009.jpg\nb_12.jpg\n"))
def test_list_of_coco20k(folder: Path, content: bytes) -> None:
    (folder / "annotations").mkdir(exist_ok=True)
    (folder / "coco_20k_filenames.txt").write_bytes(content)
    (folder / "annotations/instances_train2014.json").write_text("{}")
    harmless(lambda: open_coco20k(folder))


@few(60)
@given(damaged(b"2007_000033\n2007_000042\n") | texts.map(as_bytes))
def test_list_of_voc(folder: Path, content: bytes) -> None:
    (folder / "ImageSets/Segmentation").mkdir(parents=True, exist_ok=True)
    (folder / "ImageSets/Segmentation/val.txt").write_bytes(content)
    harmless(lambda: open_voc2012_val(folder))


def _image(mode: str, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (5, 4), 1).save(buffer, kind)
    return buffer.getvalue()


@few(200)
@given(st.data())
def test_label_maps(folder: Path, data: st.DataObject) -> None:
    mode, kind = data.draw(st.sampled_from(
        [("L", "PNG"), ("P", "PNG"), ("I;16", "PNG"), ("1", "PNG"), ("RGB", "PNG"), ("L", "TIFF"),
         ("I;16", "TIFF"), ("F", "TIFF"), ("I", "TIFF"), ("L", "BMP")]))  # fmt: skip
    (folder / "label.png").write_bytes(data.draw(damaged(_image(mode, kind))))
    for coding in (LabelCoding(values=index_values, num_categories=1, ignored=255),
                   LabelCoding(values=own_values, num_categories=1, ignored=65_535),
                   BinaryCoding(), MaskCoding(1)):  # fmt: skip
        truth = LabelMapGroundTruth(str(folder / "label.png"), coding)
        harmless(lambda truth=truth: truth.size)
        harmless(truth.labels)
        harmless(truth.digest)


# --- weights ------------------------------------------------------------------------------------

CONFIG = {
    "model_cfg": {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 8, "patch_size": 16},
        "text_cfg": {"context_length": 7, "vocab_size": 10, "width": 8, "heads": 1, "layers": 1},
    },
    "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
}


@few(150)
@given(near_json(CONFIG))
def test_configurations_of_models(folder: Path, content: bytes) -> None:
    model = folder / "model"
    model.mkdir(exist_ok=True)
    (model / "open_clip_config.json").write_bytes(content)
    (model / "open_clip_model.safetensors").write_bytes(save({"a": torch.zeros(2)}))
    harmless(lambda: open_model_folder(model, digest_of))
    harmless(lambda: resolve(parse_clip(str(model))))


RECORD = {"name": "nq20", "file": "selfmask_nq20.pt", "url": None, "sha256": "0" * 64, "size": 3}
HUB_RECORD = {"name": "hf-hub:a/b", "files": {"x.json": {"sha256": "0" * 64, "url": None}}}


@few(100)
@given(near_json(RECORD), near_json(HUB_RECORD))
def test_records_of_weights(folder: Path, record: bytes, hub_record: bytes) -> None:
    place = folder / "records"
    (place / "models").mkdir(parents=True, exist_ok=True)
    (place / "selfmask_nq20.json").write_bytes(record)
    (place / "selfmask_nq20.pt").write_bytes(b"PK\x03\x04weights")
    (place / "models" / "hf-hub--a--b.json").write_bytes(hub_record)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZUTIS_WEIGHTS", str(place))
        harmless(lambda: read_record("selfmask_nq20"))
        harmless(lambda: read_hub_record(place / "models" / "hf-hub--a--b.json"))
        harmless(lambda: resolve(parse_selfmask("nq20")))
        harmless(lambda: resolve(parse_clip("hf-hub:a/b")))
        harmless(check)


@few(60)
@given(near_json({"file": ["/x", 1, 2], "sha256": "0" * 64}))
def test_remembered_digests(folder: Path, content: bytes) -> None:
    file = folder / "digested.pt"
    file.write_bytes(b"PK\x03\x04weights")
    digest_of(file)
    for memory in (files.weights_folder() / "digests").glob("*.json"):
        memory.write_bytes(content)
    assert len(digest_of(file)) == 64


def _pickled() -> bytes:
    buffer = io.BytesIO()
    torch.save({"state_dict": {"module.a": torch.zeros(2), "module.b": torch.ones(1)}}, buffer)
    return buffer.getvalue()


@few(90)
@given(st.data())
def test_files_of_weights(folder: Path, data: st.DataObject) -> None:
    whole = {"w.safetensors": save({"a": torch.zeros(2)}), "w.pt": _pickled(),
             "w.pth": b"\x80\x02}q\x00."}  # fmt: skip
    name = data.draw(st.sampled_from(sorted(whole)))
    (folder / name).write_bytes(data.draw(damaged(whole[name])))
    harmless(lambda: load_state_dict(folder / name))


# --- the store ----------------------------------------------------------------------------------


MANIFEST = {
    "format": 1, "stage": REF.stage, "key": REF.key, "version": 1, "attempt": "attempt-1",
    "config": {"size": 3}, "weights": {}, "inputs": {}, "counts": {"rows": 100}, "notes": {},
    "files": [{"name": "rows.bin", "size": 4, "sha256": sha256(b"rows").hexdigest()}],
}  # fmt: skip


@few(150)
@given(near_json(MANIFEST))
def test_manifests(folder: Path, content: bytes) -> None:
    store = ArtifactStore(str(folder / "store"))
    place = Path(store.location(REF))
    (place / "attempt-1").mkdir(parents=True, exist_ok=True)
    (place / "attempt-1" / "rows.bin").write_bytes(b"rows")
    (place / "manifest.json").write_bytes(content)
    seen = ArtifactStore(str(folder / "store"))
    artifact = harmless(lambda: seen.find(REF))
    harmless(lambda: seen.published(REF.stage))
    if artifact is not None:
        harmless(lambda: artifact.problems(deep=True))
        for name in artifact.files:
            harmless(lambda name=name: artifact.open(name).close())
        _ = artifact.counts, artifact.notes


LEASE = {"what": "build", "title": "t", "host": "h", "pid": 3, "started": "2026-01-01T00:00:00"}


@few(60)
@given(near_json(LEASE))
def test_leases(folder: Path, content: bytes) -> None:
    running = folder / "leases" / ".running"
    running.mkdir(parents=True, exist_ok=True)
    (running / "a.json").write_bytes(content)
    harmless(lambda: leases(ArtifactStore(str(folder / "leases"))))


@few(70)
@given(st.data())
def test_data_sets(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    place = write_dataset(tmp_path_factory.mktemp("d"), [stored_sample(0, 1)], {1: "owl"})
    file = place / data.draw(
        st.sampled_from(["index.parquet", "vocabulary.json", "small-000000.tar"])
    )
    if file.suffix == ".json":
        rows = [{"category_id": 1, "name": "owl", "prompts": ["a {}"], "synonyms": []}]
        file.write_bytes(data.draw(near_json(rows)))
    else:
        file.write_bytes(data.draw(damaged(file.read_bytes())))
    _read_all(place)


@few(100)
@given(st.data())
def test_data_sets_whose_index_has_other_values(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    place = write_dataset(tmp_path_factory.mktemp("d"), [stored_sample(0, 1)], {1: "owl"})
    table = pq.read_table(place / "index.parquet", partitioning=None)
    column = data.draw(st.sampled_from(table.column_names))
    number = table.column_names.index(column)
    value = data.draw(
        st.sampled_from([-1, 0, 2**31, 2**62, "", "\0", "../x", None, 1.5, [1], b"a"])
    )
    how = data.draw(st.sampled_from(["set", "drop", "double"]))
    if how == "set":
        table = table.set_column(number, column, pa.array([value]))
    else:
        table = (
            table.remove_column(number)
            if how == "drop"
            else table.append_column(column, table[column])
        )
    pq.write_table(table, place / "index.parquet")
    _read_all(place)


def _read_all(place: Path) -> None:
    samples = harmless(lambda: ShardSamples.open(place))
    if samples is None:
        return
    harmless(samples.samples_by_category)
    for i in range(len(samples)):
        stored = harmless(lambda i=i: samples.read(i))
        if stored is not None:
            harmless(lambda i=i, stored=stored: samples.decode_object(i, stored))
            harmless(lambda i=i, stored=stored: samples.decode_labels(i, stored.mask))
            harmless(lambda i=i, s=stored: samples.decode_image(i, s.jpeg, least=(8, 8)))


# --- tars ---------------------------------------------------------------------------------------


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("a.png", "é" * 60 + ".png", "label.mask.png", "x.txt"):
            info = tarfile.TarInfo(name)
            info.size = 4
            tar.addfile(info, io.BytesIO(b"\x89PNG"))
    return buffer.getvalue()


@few(150)
@given(damaged(_tar()))
def test_tars(folder: Path, content: bytes) -> None:
    (folder / "t.tar").write_bytes(content)
    for image in iter_entry(str(folder / "t.tar"), "tar", others=Counter()):
        assert (image.data is None) == (image.reject_reason is not None)
        image.member.encode()


# --- zips, Parquet and Arrow files with images --------------------------------------------------


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a.png", "é" * 60 + ".png", "label.mask.png", "x.txt", "plain"):
            archive.writestr(name, b"\x89PNG" * 9)
    return buffer.getvalue()


def _images_in_rows() -> pa.Table:
    rows = [{"bytes": b"\x89PNG", "path": "a.png"}, {"bytes": None, "path": None}, None]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.table({"image": pa.array(rows, kind), "name": ["a", "b", "c"]})


def _parquet() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(_images_in_rows(), buffer, compression="gzip")
    return buffer.getvalue()


def _arrow() -> bytes:
    buffer = io.BytesIO()
    table = _images_in_rows()
    with pa.ipc.new_stream(buffer, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return buffer.getvalue()


@few(150)
@given(st.data())
@pytest.mark.parametrize(("kind", "whole"), [("zip", _zip), ("parquet", _parquet),
                                             ("arrow", _arrow)])  # fmt: skip
def test_containers(folder: Path, kind: str, whole: Callable[[], bytes], data: Any) -> None:
    file = folder / f"t.{kind}"
    file.write_bytes(data.draw(damaged(whole())))
    harmless(lambda: list_corpus([str(file)]))
    for image in iter_entry(str(file), kind, others=Counter()):
        assert (image.data is None) == (image.reject_reason is not None)
        image.member.encode()
        harmless(lambda image=image: read_image_bytes(image.uri, image.offset, image.length))


@few(60)
@given(near_json({"_data_files": [{"filename": "a.arrow"}]}), near_json({"splits": ["train"]}))
def test_saved_datasets(folder: Path, state: bytes, splits: bytes) -> None:
    saved = folder / "saved"
    (saved / "train").mkdir(parents=True, exist_ok=True)
    for name in ("dataset_info.json", "state.json", "train/state.json"):
        (saved / name).write_bytes(state)
    harmless(lambda: list_corpus([str(saved)]))
    (saved / "dataset_dict.json").write_bytes(splits)
    harmless(lambda: list_corpus([str(saved)]))
    (saved / "dataset_dict.json").unlink()


@few(150)
@given(damaged(b"a: [1, {b: 2.5}]\nc: 2026-01-02\nd: !!set {x, y}\ne: |\n  text\n"))
def test_yaml(content: bytes) -> None:
    with contextlib.suppress(yaml.YAMLError):
        load_plain_yaml(content.decode("utf-8", "replace"))
