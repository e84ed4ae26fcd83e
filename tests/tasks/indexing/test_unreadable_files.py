"""Special and huge files in place of any input: a pipe, a device, a folder or a hundred gigabytes
of zeros give an error for users at once, without being read."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.settings.named_values import read_values
from storage.annotations.benchmark import read_list
from storage.annotations.evaluation_set import EvaluationImage
from storage.annotations.label_maps import LabelCoding, LabelMapGroundTruth, index_values
from storage.artifacts.store import ArtifactStore
from storage.corpora.coco import image_ids
from storage.corpora.corpus import list_source, open_sources
from storage.corpora.image_bytes import iter_entry
from storage.errors.exceptions import CorpusError, ZutisError
from storage.evaluation_sets.opening import open_evaluation_set
from storage.shards.samples import ShardSamples
from storage.vocabularies.vocabulary import load_vocabulary
from storage.weights.files import digest_of
from storage.weights.hub_folders import read_hub_record
from storage.weights.model_folders import read_config
from storage.weights.registry import parse_clip
from storage.weights.resolving import read_record, resolve
from storage.weights.state_dicts import load_state_dict
from tasks.prediction.checkpoint import open_checkpoint
from tasks.stage.weights_check import describe_weights
from tests.support.files.small_artifacts import REF, publish
from tests.support.files.small_datasets import stored_sample, write_dataset
from tests.support.files.special_files import SPECIAL

pytestmark = pytest.mark.timeout(60)

_MOST_MB = 300
"""By how much the process may grow: imports, and some pieces of a file."""


def _list(path: Path) -> None:
    for source in open_sources([str(path)]):
        rejects = list_source(source).rejects.to_pylist()
        raise CorpusError(f"{rejects[0]['reason']} is counted.")


def _tar(path: Path) -> None:
    images = list(iter_entry(str(path), "tar"))
    raise CorpusError(f"{[image.reject_reason for image in images]} are counted.")


def _image(path: Path) -> None:
    [image] = iter_entry(str(path), "image")
    raise CorpusError(f"{image.reject_reason} is counted.")


def _label_map(path: Path) -> None:
    coding = LabelCoding(values=index_values, num_categories=1, ignored=255)
    LabelMapGroundTruth(str(path), coding).labels()


def _evaluation_image(path: Path) -> None:
    truth: Any = None
    EvaluationImage(image_id=1, name="a", uri=str(path), ground_truth=truth).read()


def _record(path: Path) -> None:
    read_record(path.stem)


def _dataset(path: Path) -> None:
    ShardSamples.open(path.parent)


def _checked_image(path: Path) -> None:
    describe_weights(path, path)


READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "vocabulary": ("v.yaml", lambda path: load_vocabulary(str(path))),
    "list of names": ("v.txt", lambda path: load_vocabulary(str(path))),
    "settings": ("s.yaml", lambda path: read_values([str(path)])),
    "COCO file": ("c.json", _list),
    "image ids": ("c.json", lambda path: image_ids(str(path))),
    "annotations": ("c.json", lambda path: open_evaluation_set(f"coco:{path}", None)),
    "Parquet": ("t.parquet", _list),
    "CSV": ("t.csv", _list),
    "TSV": ("t.tsv", _list),
    "list of places": ("t.txt", _list),
    "JSON lines": ("t.jsonl", _list),
    "named tar": ("t.tar", _list),
    "named image": ("a.jpg", _list),
    "named without ending": ("a", _list),
    "tar": ("t.tar", _tar),
    "image": ("a.jpg", _image),
    "label map": ("a.png", _label_map),
    "evaluation's image": ("a.jpg", _evaluation_image),
    "evaluation's list": ("val.txt", read_list),
    "digest": ("w.pt", digest_of),
    "weights": ("w.pt", lambda path: resolve(parse_clip(f"ViT-B-32:{path}"))),
    "safetensors": ("w.safetensors", load_state_dict),
    "pickle": ("w.pt", load_state_dict),
    "checkpoint": ("w.pt", open_checkpoint),
    "model's folder": ("open_clip_config.json", lambda path: read_config(path.parent)),
    "trained model": ("model.json", lambda path: open_checkpoint(path.parent)),
    "hub record": ("r.json", read_hub_record),
    "record": ("r.json", _record),
    "index": ("index.parquet", _dataset),
    "data set's vocabulary": ("vocabulary.json", _dataset),
    "checked image": ("a.jpg", _checked_image),
}
# Cases that are detected elsewhere: a folder is a corpus, and an image or tar of zeros is looked
# into where images are read.
FINE = {
    *((reader, "folder") for reader in READERS if READERS[reader][1] is _list),
    ("named image", "huge"),
    ("named tar", "huge"),
}


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("reader", READERS)
def test_it_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str, kind: str
) -> None:
    if (reader, kind) in FINE:
        pytest.skip("it is no error here")
    monkeypatch.setenv("ZUTIS_WEIGHTS", str(tmp_path))
    name, read = READERS[reader]
    if read is _dataset:
        write_dataset(tmp_path, [stored_sample(0, 1)], {1: "owl"})
        (tmp_path / name).unlink()
    SPECIAL[kind](tmp_path / name)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ZutisError) as caught:
        read(tmp_path / name)
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
    assert growth < _MOST_MB << 10
    assert str(caught.value).endswith((".", ")")), caught.value


@pytest.mark.parametrize("kind", SPECIAL)
def test_an_unreadable_manifest(tmp_path: Path, kind: str) -> None:
    store = ArtifactStore(str(tmp_path))
    publish(store)
    manifest = Path(store.location(REF), "manifest.json")
    manifest.unlink()
    SPECIAL[kind](manifest)
    with pytest.raises(ZutisError, match=r"manifest\.json"):
        ArtifactStore(str(tmp_path)).find(REF)
