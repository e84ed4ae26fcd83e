"""Retrieval by example images in the made world, with the CLIP that is shipped."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from made_world.corpus import read_ground_truth, write_corpus
from storage.artifacts.store import ArtifactStore
from tasks.stage.layout import EVIDENCE, RECORDS, RETRIEVAL
from tests.support.networks.fakes import FakeSelfMask
from tests.support.runs.builds import build_here, rows_of, settings_of

KINDS = ("crescent moon", "lightning bolt", "star", "umbrella")


@pytest.mark.slow
def test_examples_find_their_kinds_alone_and_with_a_name(
    tmp_path: Path, fake_selfmask: FakeSelfMask
) -> None:
    write_corpus(tmp_path / "world", seed=41, count=80, kinds=KINDS)
    examples = {kind: _example(tmp_path / kind, kind) for kind in KINDS}
    entries = [
        ("token", f"examples: [{examples['star']}], name_weight: 0"),
        ("moon or bolt", f"examples: [{examples[KINDS[0]]}, {examples[KINDS[1]]}], name_weight: 0"),
        ("umbrella", f"examples: [{examples['umbrella']}]"),
    ]
    vocabulary = tmp_path / "v.yaml"
    lines = [f"- {{name: {name}, {more}}}" for name, more in entries]
    vocabulary.write_text("\n".join(["categories:", *lines]))
    built = build_here(
        settings_of(
            tmp_path / "world" / "pictures", vocabulary, tmp_path / "store", per_category=16,
            clip="made-ViT-8:demo", overlap="all",
        )
    )  # fmt: skip

    truth = read_ground_truth(tmp_path / "world")
    parts = ArtifactStore(str(tmp_path / "store")).published("embed_images")
    name_of = {row["image_id"]: Path(row["uri"]).name for a in parts for row in rows_of(a, RECORDS)}
    shown: dict[str, Counter[str]] = {name: Counter() for name, _ in entries}
    for row in rows_of(built.retrieval, RETRIEVAL):
        shown[row["category"]].update({kind for kind, _ in truth[name_of[row["image_id"]]]})
    assert shown["token"]["star"] >= 10
    assert shown["umbrella"]["umbrella"] >= 11
    moons, bolts = (shown["moon or bolt"][kind] for kind in KINDS[:2])
    assert moons + bolts >= 14
    assert min(moons, bolts) >= 2
    senses = {row["category"]: len(row["other_sense"]) for row in rows_of(built.evidence, EVIDENCE)}
    assert senses["moon or bolt"] > 0
    assert senses["umbrella"] == senses["token"] == 0


def _example(folder: Path, kind: str) -> Path:
    """An image of another corpus that shows one object, of this kind."""
    write_corpus(folder, seed=43, count=8, kinds=(kind,))
    truth = read_ground_truth(folder)
    name = next(name for name, objects in sorted(truth.items()) if len(objects) == 1)
    return folder / "pictures" / name
