"""Text embeddings: one row per category, independent of the rest of the vocabulary."""

from __future__ import annotations

import numpy as np

from flows.execution.progress import StageProgress
from storage.artifacts.store import Artifact
from storage.embeddings.parts import open_embeddings
from tasks.categories.logits import Logits
from tasks.retrieval import embed_text
from tasks.retrieval.embed_text import Config, Inputs, Text
from tasks.retrieval.text_rows import TextRow, load_text_rows
from tasks.stage.contract import SilentProgress
from tasks.stage.layout import EMBEDDINGS, TEXTS
from tests.support.networks.fakes import COLOURS, FakeClip
from tests.support.runs.builds import clip, rows_of
from tests.support.runs.stages import Stages

RED = Text(("a red one", "something red"))
BLUE = Text(("a blue one", "a red and blue one"))


def embed(stages: Stages, *texts: Text) -> Artifact:
    return embed_text.run(Config(clip=clip()), Inputs(texts), stages.store, SilentProgress())


def row(part: Artifact, text: Text) -> np.ndarray:
    ids = [r["text_id"] for r in rows_of(part, TEXTS)]
    return np.asarray(open_embeddings(part, EMBEDDINGS))[ids.index(text.text_id)]


def test_a_row_is_the_normalised_mean_of_unit_rows(stages: Stages, fake_clip: FakeClip) -> None:
    part = embed(stages, BLUE)
    prompts = np.array(
        [[*COLOURS["blue"], 0.1], [*np.mean([COLOURS["red"], COLOURS["blue"]], axis=0), 0.1]]
    )
    mean = (prompts / np.linalg.norm(prompts, axis=1, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(row(part, BLUE), mean / np.linalg.norm(mean), rtol=1e-6)
    assert row(part, BLUE).dtype == np.float32
    assert rows_of(part, TEXTS) == [{"text_id": BLUE.text_id, "prompts": list(BLUE.prompts)}]
    assert part.counts == {"texts": 1, "logit_scale": FakeClip.logit_scale}


def test_a_row_does_not_depend_on_its_company(stages: Stages, fake_clip: FakeClip) -> None:
    alone, together = embed(stages, RED), embed(stages, BLUE, RED)
    np.testing.assert_array_equal(row(alone, RED), row(together, RED))


def test_a_text_is_its_prompts_in_their_order(stages: Stages) -> None:
    assert Text(("a", "b")).text_id == Text(("a", "b")).text_id
    assert len({t.text_id for t in (Text(("a", "b")), Text(("b", "a")), Text(("ab",)))}) == 3
    keys = [
        embed_text.locate(Config(clip=clip()), Inputs(texts), stages.store).key
        for texts in ((RED, BLUE), (BLUE, RED), (RED,))
    ]
    assert len(set(keys)) == 3
    assert all(key.startswith(Config(clip=clip()).recipe.prefix) for key in keys)


def test_rows_are_gathered_over_artifacts_in_the_requested_order(
    stages: Stages, fake_clip: FakeClip
) -> None:
    parts = {RED: embed(stages, RED), BLUE: embed(stages, BLUE)}
    wanted = [BLUE, RED, BLUE]
    rows, logits = load_text_rows([TextRow(t.text_id, parts[t].key) for t in wanted], stages.store)
    np.testing.assert_array_equal(rows, [row(parts[text], text) for text in wanted])
    assert logits == Logits(FakeClip.logit_scale)


def test_a_truncated_prompt_is_reported_with_the_lost_words(
    stages: Stages, fake_clip: FakeClip
) -> None:
    progress = StageProgress("embed_text", total=1, parts=1, cached_parts=0)
    long = Text(("a red one of the kind that is seen only in Peru",))
    embed_text.run(Config(clip=clip()), Inputs((RED, long)), stages.store, progress)
    [told] = progress.warnings
    assert "'in Peru' is cut off" in told


def test_a_siglips_bias_goes_with_its_texts(stages: Stages, fake_clip: FakeClip) -> None:
    fake_clip.logit_bias = -12.5
    part = embed(stages, RED)
    assert part.counts == {"texts": 1, "logit_scale": 100.0, "logit_bias": -12.5}
    _, logits = load_text_rows([TextRow(RED.text_id, part.key)], stages.store)
    assert logits == Logits(100.0, -12.5)
