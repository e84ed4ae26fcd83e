"""`--embeddings`: images that have a row are not embedded, but for a few, which are compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from flows.pipelines.build import Build
from storage.embeddings.parts import open_embeddings
from storage.errors.exceptions import ConfigError, CorpusError
from tasks.indexing import import_embeddings
from tasks.packing.record_build import used_artifacts
from tasks.stage.layout import EMBEDDINGS, RECORDS
from tests.support.files.coloured_images import write_corpus
from tests.support.networks.fakes import FakeClip, FakeSelfMask
from tests.support.runs.builds import (
    build_cached,
    build_here,
    rows_of,
    settings_of,
    write_vocabulary,
)

NAMES = ["red", "green", "blue"]


@pytest.fixture(autouse=True)
def _fake_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_embeddings, "clip_dimension", lambda _: FakeClip.embedding_dim)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    write_corpus(tmp_path / "corpus", NAMES, each=14)
    return tmp_path / "corpus"


@pytest.fixture
def run(
    corpus: Path, tmp_path: Path, fake_clip: FakeClip, fake_selfmask: FakeSelfMask
) -> Callable[..., Build]:
    vocabulary = write_vocabulary(tmp_path / "v.txt", NAMES)

    def run(**changes: Any) -> Build:
        changes = {"part_images": 0, **changes}
        return build_here(settings_of(corpus, vocabulary, tmp_path / "store", **changes))

    return run


def embeddings_of(corpus: Path) -> dict[str, np.ndarray]:
    """What the network gives, by file name."""
    clip = FakeClip()
    found = {}
    for path in sorted(corpus.iterdir()):
        with Image.open(path) as image:
            found[path.name] = clip.embed_images(clip.preprocess(image)[None]).numpy()[0]
    return found


def write_embeddings(folder: Path, rows: dict[str, np.ndarray]) -> str:
    """As clip-retrieval does, not of unit length."""
    for name in ("img_emb", "metadata"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    np.save(folder / "img_emb" / "img_emb_0.npy", 3 * np.stack(list(rows.values())))
    pq.write_table(pa.table({"image_path": list(rows)}), folder / "metadata/metadata_0.parquet")
    return str(folder)


def by_file(built: Build) -> dict[str, np.ndarray]:
    found = {}
    for part in built.embedded:
        rows = open_embeddings(part, EMBEDDINGS)
        for record, row in zip(rows_of(part, RECORDS), rows, strict=True):
            found[Path(record["uri"]).name] = np.array(row, np.float32)
    return found


def test_given_rows_are_taken_and_a_few_are_compared(
    run: Callable[..., Build], corpus: Path, tmp_path: Path, fake_clip: FakeClip
) -> None:
    own = embeddings_of(corpus)
    built = run(embeddings=write_embeddings(tmp_path / "given", own))
    assert fake_clip.calls["images"] == 11  # the first eight, the 9th, the 17th, the 33rd
    [part] = built.embedded
    assert (part.counts["given"], part.counts["compared"]) == (42, 11)
    for name, row in by_file(built).items():
        np.testing.assert_allclose(row, own[name], atol=1e-3)
    assert "import_embeddings" in {ref.stage for ref in used_artifacts(built.record)}


def test_images_without_a_row_are_embedded(
    run: Callable[..., Build], corpus: Path, tmp_path: Path, fake_clip: FakeClip
) -> None:
    own = embeddings_of(corpus)
    some = {name: row for name, row in own.items() if not name.startswith("green")}
    built = run(embeddings=write_embeddings(tmp_path / "given", some))
    assert built.embedded[0].counts["given"] == 28
    assert fake_clip.calls["images"] >= 14
    for name, row in by_file(built).items():
        np.testing.assert_allclose(row, own[name], atol=1e-3)


def test_another_clip_s_embeddings_are_an_error(
    run: Callable[..., Build], corpus: Path, tmp_path: Path
) -> None:
    own = embeddings_of(corpus)
    turned = {name: row[::-1] for name, row in own.items()}
    with pytest.raises(ConfigError, match="not those of this CLIP: of 8 images"):
        run(embeddings=write_embeddings(tmp_path / "given", turned))


def test_another_width_is_an_error(run: Callable[..., Build], corpus: Path, tmp_path: Path) -> None:
    wide = {name: np.ones(7) for name in embeddings_of(corpus)}
    with pytest.raises(ConfigError, match="have 7 numbers each, and those of made-ViT-8 have 4"):
        run(embeddings=write_embeddings(tmp_path / "given", wide))


def test_a_changed_image_that_is_compared_keeps_its_own_embedding(
    run: Callable[..., Build], corpus: Path, tmp_path: Path
) -> None:
    own = embeddings_of(corpus)
    first = min(own)
    built = run(embeddings=write_embeddings(tmp_path / "given", own | {first: own[first][::-1]}))
    assert built.embedded[0].counts["changed"] == 1
    np.testing.assert_allclose(by_file(built)[first], own[first], atol=1e-3)


def test_two_images_of_one_name_are_an_error(
    run: Callable[..., Build], corpus: Path, tmp_path: Path
) -> None:
    own = embeddings_of(corpus)
    names = sorted(own)
    (corpus / "more").mkdir()
    (corpus / names[0]).rename(corpus / "more" / names[1])
    with pytest.raises(CorpusError, match="go by the same name in the given embeddings"):
        run(embeddings=write_embeddings(tmp_path / "given", own))


def test_a_zero_row_is_an_error(run: Callable[..., Build], corpus: Path, tmp_path: Path) -> None:
    own = embeddings_of(corpus)
    own[max(own)] = np.zeros(4, np.float32)
    with pytest.raises(CorpusError, match="zero or not finite"):
        run(embeddings=write_embeddings(tmp_path / "given", own))


def test_the_same_build_again_computes_nothing(
    run: Callable[..., Build], corpus: Path, tmp_path: Path
) -> None:
    given = write_embeddings(tmp_path / "given", embeddings_of(corpus))
    first = run(embeddings=given)
    vocabulary, store = tmp_path / "v.txt", tmp_path / "store"
    again = build_cached(settings_of(corpus, vocabulary, store, part_images=0, embeddings=given))
    assert again.record.ref == first.record.ref
    assert run().record.ref != first.record.ref
