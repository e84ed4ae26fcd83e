"""Categories that say what their names don't mean, and which images show them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flows.settings.build import BuildSettings
from storage.errors.exceptions import CorpusError, VocabularyError
from tasks.stage.layout import RETRIEVAL
from tests.support.networks.fakes import COLOURS as COLOURS_OF_CLIP
from tests.support.networks.fakes import FakeClip, FakeSelfMask
from tests.support.runs.builds import (
    artifacts_by_stage,
    build_cached,
    build_here,
    rows_of,
    settings_of,
)

EACH = 8
COLOURS = ["red", "blue", "green"]


@pytest.fixture
def settings(tmp_path: Path, fake_clip: FakeClip, fake_selfmask: FakeSelfMask) -> BuildSettings:
    (tmp_path / "corpus").mkdir()
    for colour in COLOURS:
        for number in range(EACH):
            framed(colour, number).save(tmp_path / "corpus" / f"{colour}-{number}.png")
        framed(colour, EACH).save(tmp_path / f"{colour}.png")
    return settings_of(
        tmp_path / "corpus", tmp_path / "v.yaml", tmp_path / "store", per_category=2 * EACH
    )


def framed(colour: str, number: int) -> Image.Image:
    """An image all of one colour, in a dark frame that is a little wider for each number."""
    image = Image.new("RGB", (48, 40), (40, 40, 40))
    inside = tuple(round(200 * value + 40) for value in COLOURS_OF_CLIP[colour])
    image.paste(inside, (2, 2, 46 - number, 38))
    return image


def build_for(settings: BuildSettings, *entries: str) -> list[dict[str, Any]]:
    """The rows of the retrieval for these entries of a vocabulary."""
    lines = [f"- {entry}" for entry in entries]
    Path(settings.vocabulary).write_text("\n".join(["categories:", *lines]))
    return rows_of(build_here(settings).retrieval, RETRIEVAL)


def kept_colours(settings: BuildSettings, rows: list[dict[str, Any]], category: str) -> list[str]:
    """The colours of the images that a category keeps, sorted."""
    by_id = {image["image_id"]: image["uri"] for image in _images(settings)}
    kept = [row["image_id"] for row in rows if row["category"] == category and row["kept"]]
    return sorted(Path(by_id[image_id]).name.split("-")[0] for image_id in kept)


def _images(settings: BuildSettings) -> list[dict[str, Any]]:
    from storage.artifacts.store import ArtifactStore
    from tasks.stage.layout import RECORDS

    store = ArtifactStore(settings.store)
    return [row for part in store.published("embed_images") for row in rows_of(part, RECORDS)]


def test_images_nearer_to_what_a_name_does_not_mean_are_dropped(settings: BuildSettings) -> None:
    both = build_for(settings, "red or blue")
    assert kept_colours(settings, both, "red or blue") == ["blue"] * EACH + ["red"] * EACH
    rows = build_for(settings, "{name: red or blue, not: [blue]}")
    assert kept_colours(settings, rows, "red or blue") == ["red"] * EACH
    dropped = [row for row in rows if not row["kept"]]
    assert {row["reason"] for row in dropped} == {"nearer_to_not"}
    assert len(dropped) == EACH


def test_a_vocabulary_whose_not_leaves_nothing_is_told_so(settings: BuildSettings) -> None:
    with pytest.raises(CorpusError, match=r"nearer_to_not.*: write other texts under `not`"):
        build_for(settings, "{name: something, not: [red, green, blue]}")


def test_examples_alone_are_found_whatever_the_name(settings: BuildSettings) -> None:
    rows = build_for(settings, "{name: part 17, examples: [red.png], name_weight: 0}", "blue")
    assert kept_colours(settings, rows, "part 17")[-EACH:] == ["red"] * EACH
    best = [row for row in rows if row["category"] == "part 17" and row["rank"] <= EACH]
    assert all(row["kept"] for row in best)
    blue = [row for row in rows if row["category"] == "blue" and row["rank"] <= EACH]
    assert all(row["kept"] for row in blue)


def test_a_name_and_its_examples_are_looked_for_together(settings: BuildSettings) -> None:
    rows = build_for(settings, "{name: red or blue, examples: [blue.png]}")
    first = [row for row in rows if row["rank"] <= EACH]
    by_id = {image["image_id"]: Path(image["uri"]).name for image in _images(settings)}
    assert all(by_id[row["image_id"]].startswith("blue") for row in first)


def test_the_order_and_the_place_of_examples_change_nothing(
    settings: BuildSettings, tmp_path: Path
) -> None:
    build_for(settings, "{name: thing, examples: [red.png, blue.png]}")
    before = artifacts_by_stage(settings.store)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "red.png").rename(tmp_path / "elsewhere" / "1.png")
    build_for(settings, "{name: thing, examples: [blue.png, elsewhere/1.png]}")
    assert artifacts_by_stage(settings.store) == before
    build_cached(settings)


def test_a_vocabulary_without_these_has_the_keys_of_before(settings: BuildSettings) -> None:
    build_for(settings, "red", "blue")
    before = artifacts_by_stage(settings.store)
    assert "embed_examples" not in before
    build_for(settings, "{name: red, not: [], examples: []}", "blue")
    assert artifacts_by_stage(settings.store) == before


def test_examples_that_cannot_be_used_end_the_build_in_a_sentence(
    settings: BuildSettings, tmp_path: Path
) -> None:
    (tmp_path / "text.png").write_text("no image")
    Image.new("RGB", (4, 4)).save(tmp_path / "small.png")
    for name, why in (("absent.png", "can't be read"), ("text.png", "can't be used"),
                      ("small.png", "can't be used")):  # fmt: skip
        with pytest.raises(VocabularyError, match=f"{name} of 'thing' {why}") as error:
            build_for(settings, f"{{name: thing, examples: [{name}]}}")
        assert "\n" not in str(error.value)
        assert str(error.value).endswith(".")
