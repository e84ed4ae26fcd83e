"""How many images of a corpus show each category, and a retrieval that ends there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from storage.artifacts.store import Artifact
from tasks.stage.layout import EVIDENCE, RETRIEVAL
from tests.support.files.coloured_images import coloured_image, write_corpus
from tests.support.networks.fakes import FakeClip
from tests.support.runs.builds import rows_of
from tests.support.runs.stages import Stages

NAMES = ["red", "green", "yellow"]
SHOWN = {"red": 12, "green": 5}
OTHERS = 240


@pytest.fixture
def index(stages: Stages, corpus: Path, fake_clip: FakeClip) -> Artifact:
    """Red and green images among greys, whose scores vary a little around one value."""
    for colour, count in SHOWN.items():
        write_corpus(corpus, [colour], each=count)
    rng = np.random.default_rng(0)
    for number in range(OTHERS):
        image = coloured_image("grey", number)
        tint = rng.normal(0, 6, 3)
        image = image.point(
            [int(np.clip(v + tint[c], 0, 255)) for c in range(3) for v in range(256)]
        )
        image.save(corpus / f"other-{number}.jpg", quality=92)
    return stages.index(stages.scan(corpus))


def test_the_images_of_each_category_are_counted_and_end_its_retrieval(
    stages: Stages, index: Artifact
) -> None:
    evidence = stages.evidence(index, NAMES, k=30)
    found = rows_of(evidence, EVIDENCE)
    assert [row["category"] for row in found] == ["red (1)", "green (2)", "yellow (3)"]
    shown = [row["images"] for row in found]
    assert shown[:2] == [pytest.approx(SHOWN[name], abs=2) for name in ("red", "green")]

    assert [row["thin"] for row in found][:2] == [False, True]
    green = found[1]
    assert len(green["best"]) == 5
    assert all(Path(image["uri"]).name.startswith("green") for image in green["best"])
    assert [rival["category"] for rival in green["rivals"]] != []

    table = rows_of(
        stages.retrieve(index, NAMES, 30, "all", evidence=evidence, at_least=0), RETRIEVAL
    )
    assert len(table) == 3 * 30
    for row in table:
        kept = row["rank"] <= shown[row["category_id"] - 1]
        assert (row["kept"], row["reason"]) == (kept, "" if kept else "beyond_evidence")

    at_least = stages.retrieve(index, NAMES, 30, "all", evidence=evidence, at_least=9)
    kept_ranks = [row["rank"] for row in rows_of(at_least, RETRIEVAL)
                  if row["category"] == "green (2)" and row["kept"]]  # fmt: skip
    assert kept_ranks == list(range(1, 10))

    without_thin = stages.retrieve(index, NAMES, 30, "all", evidence=evidence, drop_thin=True)
    for row in rows_of(without_thin, RETRIEVAL):
        kept = not found[row["category_id"] - 1]["thin"]
        assert (row["kept"], row["reason"]) == (kept, "" if kept else "thin_category")


def test_a_corpus_too_small_for_an_estimate_ends_no_retrieval(
    stages: Stages, corpus: Path, fake_clip: FakeClip
) -> None:
    write_corpus(corpus, ["red", "grey"], each=4)
    index = stages.index(stages.scan(corpus))
    evidence = stages.evidence(index, ["red"], k=8)
    assert [row["images"] for row in rows_of(evidence, EVIDENCE)] == [None]
    retrieval = stages.retrieve(index, ["red"], 8, evidence=evidence, at_least=0, drop_thin=True)
    table = rows_of(retrieval, RETRIEVAL)
    assert all(row["kept"] for row in table)
