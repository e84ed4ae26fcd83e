"""Extra crops of elongated images: objects at their ends are found, and nothing else changes."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flows.pipelines.build import Build
from flows.summaries.build import summarise
from flows.upkeep.repair import repair_store
from storage.artifacts.store import ArtifactStore
from storage.embeddings.parts import open_embeddings
from storage.errors.exceptions import ArtifactError
from tasks.indexing.index_rows import load_index_rows
from tasks.stage.layout import CROPS, EMBEDDINGS, NEIGHBOURS, RETRIEVAL, RETRIEVED_IMAGES
from tests.support.files.bad_images import encoded, write
from tests.support.files.coloured_images import write_corpus
from tests.support.networks.fakes import FakeClip, FakeSelfMask
from tests.support.runs.builds import (
    artifacts_by_stage,
    build_cached,
    build_here,
    contents,
    new_artifacts,
    rows_of,
    settings_of,
    write_vocabulary,
)


def wide(place: float, seed: int, *, turned: bool = False) -> bytes:
    """Grey, 160 x 40 pixels, with a green bar 20 wide at a place from 0 (left) to 1 (right)."""
    pixels = np.full((40, 160, 3), 40 + seed, np.uint8)
    left = round(place * 140)
    pixels[2:38, left : left + 20] = (0, 255, 0)
    if turned:
        pixels = pixels.transpose(1, 0, 2)
    return encoded(Image.fromarray(pixels), "PNG")


PLACES = [0.0, 0.25, 0.5, 0.75, 1.0]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    corpus = tmp_path / "corpus"
    write_corpus(corpus, ["red", "blue"], each=6)
    for number, place in enumerate(PLACES):
        write(corpus / f"wide-{number}.png", wide(place, number))
        write(corpus / f"high-{number}.png", wide(place, number, turned=True))
    return corpus


@pytest.fixture
def settings(
    tmp_path: Path,
    corpus: Path,
    fake_clip: FakeClip,
    fake_selfmask: FakeSelfMask,
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    whole = fake_clip.preprocess

    def central(image: Image.Image) -> Any:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        return whole(image.crop((left, top, left + side, top + side)))

    monkeypatch.setattr(fake_clip, "preprocess", central)
    vocabulary = write_vocabulary(tmp_path / "v.txt", ["green", "red"])

    def settings(**changes: Any) -> Any:
        changes = {"per_category": len(PLACES) * 2} | changes
        return settings_of(corpus, vocabulary, tmp_path / "store", **changes)

    return settings


def found(build: Build, category: str) -> list[dict[str, Any]]:
    rows = rows_of(build.retrieval, RETRIEVAL)
    return [row for row in rows if row["category"] == category and row["kept"]]


def names(build: Build, category: str) -> set[str]:
    uris = {row["image_id"]: row["uri"] for row in rows_of(build.retrieval, RETRIEVED_IMAGES)}
    return {Path(uris[row["image_id"]]).stem for row in found(build, category)}


def test_an_object_at_an_end_is_found_as_one_in_the_middle(settings: Any) -> None:
    central = build_here(settings(min_score=0.7))
    assert names(central, "green") == {"wide-2", "high-2"}
    many = build_here(settings(min_score=0.7, crops="many"))
    assert names(many, "green") == {f"{side}-{n}" for side in ("wide", "high")
                                          for n in range(len(PLACES))}  # fmt: skip
    scores = [row["score"] for row in found(many, "green")]
    assert max(scores) - min(scores) < 0.05
    assert min(row["probability"] for row in found(many, "green")) > 0.99


def test_an_image_is_retrieved_once_and_by_its_best_crop(settings: Any) -> None:
    built = build_here(settings(crops="many"))
    [search] = built.index.store.published("search_index")
    neighbours = rows_of(search, NEIGHBOURS)
    rows, image_ids = load_index_rows(built.index, built.index.store)
    assert (rows.images, len(rows)) == (22, 22 + 10 * 6)
    for text in {row["text_id"] for row in neighbours}:
        here = [row for row in neighbours if row["text_id"] == text]
        assert len({row["image_id"] for row in here}) == len(here) == 10
        assert [row["rank"] for row in here] == list(range(1, 11))
        assert [row["score"] for row in here] == sorted((r["score"] for r in here), reverse=True)
    assert any(row["position"] >= rows.images for row in neighbours)
    ids = image_ids.to_pylist()
    positions = np.arange(len(rows))
    assert [ids[i] for i in rows.image_of(positions)] == ids


def test_embedded_parts_are_kept_and_a_second_build_computes_nothing(
    settings: Any, tmp_path: Path, fake_clip: FakeClip
) -> None:
    first = build_here(settings())
    before = artifacts_by_stage(tmp_path / "store")
    images = fake_clip.calls["images"]
    many = build_here(settings(crops="many"))
    assert fake_clip.calls["images"] - images == 10 * 6
    new = new_artifacts(before, artifacts_by_stage(tmp_path / "store"))
    assert "embed_images" not in new
    assert new["embed_crops"] == 4  # of five parts one holds ordinary images alone
    assert build_cached(settings(crops="many")).dataset.ref == many.dataset.ref
    assert build_cached(settings()).dataset.ref == first.dataset.ref


def test_rows_are_those_of_the_squares(settings: Any, fake_clip: FakeClip, corpus: Path) -> None:
    built = build_here(settings(crops="many"))
    artifact = built.index.store.published("embed_crops")[0]
    crops = rows_of(artifact, CROPS)
    rows = open_embeddings(artifact, EMBEDDINGS)
    assert len(crops) == len(rows)
    paths = {sha256(path.read_bytes()).hexdigest(): path for path in corpus.iterdir()}
    for crop, row in zip(crops, rows, strict=True):
        with Image.open(paths[crop["image_id"]]) as image:
            left, top, side = crop["left"], crop["top"], crop["side"]
            square = image.convert("RGB").crop((left, top, left + side, top + side))
        expected = fake_clip.embed_images(fake_clip.preprocess(square)[None]).numpy()[0]
        np.testing.assert_array_equal(row, expected.astype(np.float16))


def test_crops_of_removed_images_and_of_copies_are_not_in_the_index(
    settings: Any, corpus: Path
) -> None:
    first = build_here(settings(crops="many"))
    assert first.index.counts["crops"] == 60
    (corpus / "wide-0.png").unlink()
    write(corpus / "zz-copy.png", wide(PLACES[1], 1))
    second = build_here(settings(crops="many"))
    assert second.index.counts["crops"] == 54
    assert "wide-0" not in names(second, "green")


def test_damaged_crops_are_named_and_repaired_to_the_same_bytes(
    settings: Any, tmp_path: Path
) -> None:
    built = build_here(settings(crops="many"))
    before = contents(tmp_path / "store")
    artifact = built.index.store.published("embed_crops")[0]
    Path(artifact.uri(EMBEDDINGS)).unlink()
    with pytest.raises(ArtifactError, match=f"{artifact.key}.*--repair"):
        build_cached(settings(crops="many"))
    assert list(repair_store(ArtifactStore(str(tmp_path / "store"))))
    build_here(settings(crops="many"))
    assert contents(tmp_path / "store") == before


def test_an_approximate_index_finds_them_too(settings: Any) -> None:
    built = build_here(settings(crops="many", index="Flat", min_score=0.7))
    assert len(names(built, "green")) == 10


def test_the_summary_reports_elongated_images(settings: Any) -> None:
    assert summarise(build_here(settings()), []).facts["elongated"] == (
        "10 images are beyond 1.5 : 1; CLIP sees their central square alone, and can miss what is "
        "at their ends: --crops many looks there too"
    )
    assert summarise(build_here(settings(crops="many")), []).facts["elongated"] == (
        "10 images are beyond 1.5 : 1; CLIP sees 60 squares along them, and each image's best "
        "counts"
    )
