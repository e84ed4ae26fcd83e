"""Image ids of a COCO file, or an error that says why there are none."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from storage.errors.exceptions import CorpusError
from tasks.prediction.image_ids import ImageIds, ids_of_corpus, ids_of_file
from tasks.prediction.predict import find_images
from tests.support.files.bad_images import jpeg, write


def coco(path: Path, images: dict[str, Any] | list[dict[str, Any]]) -> Path:
    rows = images
    if isinstance(images, dict):
        rows = [{"file_name": name, "id": own_id} for name, own_id in images.items()]
    return write(path, json.dumps({"images": rows, "annotations": []}).encode())


def numbers(ids: ImageIds, *specs: Path) -> dict[str, int]:
    listing = find_images([str(spec) for spec in specs])
    ids.check(listing)
    return {Path(uri).name: ids.take(uri, "") for uri in listing.entries["uri"].to_pylist()}


def test_a_corpus_of_coco_files_has_their_ids(tmp_path):
    for name in ("a/1.jpg", "a/2.jpg", "b/images/x/1.jpg"):
        write(tmp_path / name, jpeg())
    files = [coco(tmp_path / "a/t.json", {"2.jpg": 4, "./1.jpg": 90, "gone.jpg": 5}),
             coco(tmp_path / "b/t.json", {"x/1.jpg": 3})]  # fmt: skip
    ids = ids_of_corpus([str(file) for file in files])
    assert ids is not None
    listing = find_images([str(file) for file in files])
    ids.check(listing)
    uris = listing.entries["uri"].to_pylist()
    assert [ids.take(uri, "") for uri in uris] == [90, 4, 3]


def test_any_other_corpus_has_no_ids(tmp_path):
    write(tmp_path / "1.jpg", jpeg())
    file = coco(tmp_path / "t.json", {"1.jpg": 4})
    assert ids_of_corpus([str(file), str(tmp_path)]) is None
    assert ids_of_corpus([str(tmp_path)]) is None


def test_files_with_contradicting_ids_are_refused(tmp_path):
    for name in ("1.jpg", "2.jpg"):
        write(tmp_path / name, jpeg())
    files = [coco(tmp_path / "s.json", {"1.jpg": 4}), coco(tmp_path / "t.json", {"2.jpg": 4})]
    with pytest.raises(CorpusError, match=r"s\.json and .*t\.json number their images differently"):
        ids_of_corpus([str(file) for file in files])
    coco(tmp_path / "t.json", {"1.jpg": 5})
    with pytest.raises(CorpusError, match=r"number their images differently"):
        ids_of_corpus([str(file) for file in files])
    coco(tmp_path / "t.json", {"1.jpg": 4})
    assert numbers(ids_of_corpus([str(file) for file in files]), *files) == {"1.jpg": 4}


def test_an_image_has_the_longest_name_that_its_path_ends_in(tmp_path):
    for name in ("val/1.jpg", "val/2.jpg", "other/1.jpg"):
        write(tmp_path / name, jpeg())
    ids = ids_of_file(str(coco(tmp_path / "t.json", {"1.jpg": 7, "2.jpg": 1, "val/1.jpg": 30})))
    assert numbers(ids, tmp_path / "val") == {"1.jpg": 30, "2.jpg": 1}
    assert ids.take(str(tmp_path / "other/1.jpg"), "") == 7


def test_members_of_tars_are_known_by_their_names(tmp_path):
    write(tmp_path / "1.jpg", jpeg())
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        tar.add(tmp_path / "1.jpg", "val/1.jpg")
    ids = ids_of_file(str(coco(tmp_path / "t.json", {"1.jpg": 7})))
    ids.check(find_images([str(tmp_path / "t.tar")]))
    assert ids.take(str(tmp_path / "t.tar"), "val/1.jpg") == 7
    with pytest.raises(CorpusError, match=r"t\.tar/2\.jpg is not in .*t\.json"):
        ids.take(str(tmp_path / "t.tar"), "2.jpg")


def test_images_that_the_file_does_not_name_are_one_sentence(tmp_path):
    for number in range(6):
        write(tmp_path / f"{number}.jpg", jpeg())
    ids = ids_of_file(str(coco(tmp_path / "t.json", {"0.jpg": 7})))
    with pytest.raises(CorpusError, match=r"5 of 6 images are not in .*1\.jpg.* and 2 more") as e:
        ids.check(find_images([str(tmp_path)]))
    assert "\n" not in str(e.value)


def test_two_images_of_one_name_are_one_sentence(tmp_path):
    for name in ("a/1.jpg", "b/1.jpg"):
        write(tmp_path / name, jpeg())
    ids = ids_of_file(str(coco(tmp_path / "t.json", {"1.jpg": 7})))
    with pytest.raises(CorpusError, match=r"a/1\.jpg and .*b/1\.jpg are both image 7"):
        ids.check(find_images([str(tmp_path)]))


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ([{"file_name": "a", "id": 1}, {"file_name": "a", "id": 2}], r"images\[1\].*another `id`"),
        ([{"file_name": "a", "id": 1}, {"file_name": "b", "id": 1}], r"`id` 1 of a"),
        ([{"file_name": "a"}], "no whole number as its `id`"),
        ([{"file_name": "a", "id": True}], "no whole number as its `id`"),
        ([{"file_name": "a", "id": "1"}], "no whole number as its `id`"),
        ([{"id": 1}], "no `file_name`"),
    ],
)
def test_files_that_number_nothing_are_one_sentence(tmp_path, images, words):
    file = str(coco(tmp_path / "t.json", images))
    with pytest.raises(CorpusError, match=words):
        ids_of_file(file)
