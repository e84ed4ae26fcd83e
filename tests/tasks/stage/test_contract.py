"""The contract of stages: the status while waiting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.indexing import embed_images
from tasks.masking import make_masks
from tasks.retrieval import embed_text
from tasks.stage.contract import SilentProgress, waiting
from tests.support.files.coloured_images import write_corpus
from tests.support.networks.fakes import FakeClip, FakeSelfMask
from tests.support.runs.stages import Stages


class Telling(SilentProgress):
    told: list[str]

    def __init__(self) -> None:
        self.told = []

    def tell(self, text: str) -> None:
        self.told.append(text)


def test_the_status_is_shown_while_waiting():
    progress = Telling()
    with waiting(progress, "loading CLIP"):
        assert progress.told == ["loading CLIP"]
    assert progress.told[-1] == ""
    with pytest.raises(OSError), waiting(progress, "loading CLIP"):
        raise OSError
    assert progress.told[-1] == "", "also where it never comes"


def test_stages_tell_that_they_load_a_network(
    stages: Stages,
    corpus: Path,
    fake_clip: FakeClip,
    fake_selfmask: FakeSelfMask,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = ""
    during: dict[str, str] = {}

    def tell(_: Any, text: str) -> None:
        nonlocal now
        now = text

    def loading(name: str, network: Any) -> Any:
        def load(config: Any) -> Any:
            during[name] = now
            return network

        return load

    monkeypatch.setattr(SilentProgress, "tell", tell)
    for module, loader, network in (
        (embed_images, "load_clip_model", fake_clip),
        (embed_text, "load_clip_model", fake_clip),
        (make_masks, "load_selfmask_model", fake_selfmask),
    ):
        monkeypatch.setattr(module, loader, loading(module.NAME, network))
    write_corpus(corpus, ["red", "blue"], each=2)
    index = stages.index(stages.scan(corpus))
    retrieval = stages.retrieve(index, ["red", "blue"], 2)
    config = stages.mask_config()
    plan = stages.plan_masks(retrieval, config)
    assert plan is not None
    stages.mask(plan, config)
    assert during == {
        "embed_images": "loading CLIP",
        "embed_text": "loading CLIP",
        "make_masks": "loading SelfMask",
    }
    assert now == ""
