"""The two corpora of real photographs, if they are available."""

from __future__ import annotations

import os
from collections import Counter
from hashlib import sha256
from pathlib import Path

import pytest

from storage.corpora.corpus import list_source, open_sources
from storage.corpora.image_bytes import iter_entry, read_image_bytes
from storage.images.decoding import decode

DATA = Path(os.environ.get("ZUTIS_TEST_DATA") or Path(__file__).parents[4] / "shared/data")

pytestmark = pytest.mark.skipif(
    not (DATA / "coco128").is_dir(), reason=f"no photographs in {DATA}; set ZUTIS_TEST_DATA"
)


def read_all(spec: Path) -> Counter[str]:
    """The images of a corpus by sha256, each decoded, and read twice with the same result."""
    images: Counter[str] = Counter()
    for source in open_sources([str(spec)]):
        listing = list_source(source)
        assert listing.rejects.num_rows == 0
        for entry in listing.entries.to_pylist():
            for image in iter_entry(entry["uri"], entry["kind"]):
                assert image.data is not None, image
                assert read_image_bytes(image.uri, image.offset, image.length) == image.data
                assert decode(image.data, unusual="reject").format == "JPEG"
                images[sha256(image.data).hexdigest()] += 1
    return images


def test_a_folder_and_its_annotations_hold_the_same_photographs():
    photographs = read_all(DATA / "coco128/images")
    assert sum(photographs.values()) == 128
    assert read_all(DATA / "coco128/annotations/instances.json") == photographs


def test_tars_as_other_programs_write_them():
    tars = [read_all(path) for path in sorted((DATA / "webdataset").glob("*.tar"))]
    assert len(tars) == 4
    assert all(tars)
    assert read_all(DATA / "webdataset/*.tar") == sum(tars, Counter())
