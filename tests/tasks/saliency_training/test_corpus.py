from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from storage.corpora.selection import Selection
from storage.errors.exceptions import CorpusError
from tasks.saliency_training.corpus import read_sample


def jpeg(number: int, size=(40, 30)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (number, 0, 0)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def corpus(tmp_path):
    for number in range(6):
        (tmp_path / f"{number}.png").write_bytes(jpeg(10 * number))
    (tmp_path / "broken.png").write_bytes(b"")
    with tarfile.open(tmp_path / "more.tar", "w") as tar:
        for number in (7, 8):
            data = jpeg(10 * number)
            info = tarfile.TarInfo(f"in/{number}.png")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return tmp_path


def read(corpus, at_most=0, seed=0, shorter_side=100):
    return read_sample([str(corpus)], at_most=at_most, shorter_side=shorter_side, seed=seed)


def test_everything_that_can_be_used(corpus):
    sample = read(corpus)
    assert [image.name for image in sample.images] == [
        f"{number}.png" for number in (0, 1, 2, 3, 4, 5, 7, 8)
    ]
    assert sample.rejects == {"empty_file": 1}
    for image in sample.images:
        assert image.pixels.shape == (30, 40, 3)
        assert image.pixels[0, 0, 0] == 10 * int(image.name[0])


def test_some_of_it_by_chance(corpus):
    one, same, *others = (read(corpus, 3, seed) for seed in (0, 0, 1, 2, 3))
    names = [[image.name for image in sample.images] for sample in (one, same, *others)]
    assert names[0] == names[1] == sorted(names[0])
    assert {len(some) for some in names} == {3}
    assert len(set(map(tuple, names))) > 1


def test_large_images_become_small(corpus):
    (corpus / "large.png").write_bytes(jpeg(0, (900, 300)))
    sizes = {image.name: image.pixels.shape for image in read(corpus).images}
    assert sizes["large.png"] == (100, 300, 3)
    assert sizes["0.png"] == (30, 40, 3)  # not enlarged


def test_nothing_that_can_be_used(tmp_path):
    with pytest.raises(CorpusError, match="no image"):
        read(tmp_path)
    (tmp_path / "a.jpg").write_bytes(b"<html>")
    with pytest.raises(CorpusError, match="1 not_an_image"):
        read(tmp_path)


def test_all_kinds_of_corpora_are_read_and_excluded_files_counted(corpus):
    (corpus / "list.txt").write_text("0.png\n# 1.png\n2.png\nmore.tar\ngone.png\nbroken.png\n")
    specs, settings = [str(corpus / "list.txt")], {"at_most": 0, "shorter_side": 100, "seed": 0}
    sample = read_sample(specs, **settings, selection=Selection.of([], ["2.png", "in/7*"]))
    assert [image.name for image in sample.images] == ["0.png", "8.png"]
    assert sample.rejects == {"missing": 1, "empty_file": 1}
    assert sample.ignored == {"excluded": 2}
    (corpus / "t.csv").write_text("photo,url\n3.png,x\n")
    sample = read_sample([str(corpus / "t.csv")], **settings, uri_column="photo")
    assert [image.name for image in sample.images] == ["3.png"]


def test_pixels_can_be_trained_on(corpus):
    assert {image.pixels.dtype for image in read(corpus).images} == {np.dtype(np.uint8)}
