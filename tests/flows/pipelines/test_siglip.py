"""SigLIP in commands: a build from a local folder without a network, and refused uses."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from flows.commands import build
from flows.commands.predict import _segmenter
from flows.looking import search
from flows.settings.build import BuildSettings
from flows.settings.evaluation import EvaluationSettings
from flows.settings.next_steps import NextSteps
from flows.settings.options import changed
from flows.settings.prediction import PredictOptions
from flows.settings.training import TrainingSettings, training_config
from flows.summaries.build import summarise
from storage.errors.exceptions import WeightsError, ZutisError
from storage.vocabularies.prompt_templates import TEMPLATES
from tasks.evaluation.evaluate import Config as EvaluateConfig
from tasks.prediction.dense_segmenter import DenseSegmenter
from tasks.prediction.segmenter import InstanceSettings, zutis_segmenter
from tasks.saliency_training.patch_features import load_patch_features
from tasks.stage.layout import EMBEDDINGS, RETRIEVAL
from tasks.stage.models import load_clip_model, resolve_clip
from tests.support.files.coloured_images import write_corpus
from tests.support.networks.fakes import FakeSelfMask
from tests.support.networks.siglip import siglip_config, write_siglip
from tests.support.runs.builds import build_cached, build_here, rows_of


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_siglip(tmp_path_factory.mktemp("models") / "siglip")


@pytest.fixture(autouse=True)
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("ZUTIS_WEIGHTS", str(tmp_path / "cache"))


@pytest.fixture
def settings(tmp_path: Path, siglip: Path, fake_selfmask: FakeSelfMask) -> BuildSettings:
    corpus = tmp_path / "pictures"
    write_corpus(corpus, ["red", "green", "blue"], each=4)
    vocabulary = tmp_path / "names.txt"
    vocabulary.write_text("red bird\nrain\n")
    return BuildSettings(
        corpus=(str(corpus),),
        vocabulary=str(vocabulary),
        per_category=12,
        clip=str(siglip),
        selfmask="random:0",
        mask_size=40,
        overlap="all",
        device="cpu",
        store=str(tmp_path / "store"),
    )


def test_a_build_from_a_folder(settings: BuildSettings, siglip: Path) -> None:
    import torch

    built = build_here(settings)
    assert built.dataset.counts["samples"] > 0
    build_cached(settings)

    table = rows_of(built.retrieval, RETRIEVAL)
    clip = load_clip_model(resolve_clip(str(siglip)))
    assert {row["category"] for row in table} == {"red bird", "rain"}
    for name in ("red bird", "rain"):
        prompts = [template.format(name) for template in TEMPLATES]
        text = clip.ensemble(clip.embed_prompts(prompts)).double().numpy()
        for row in (row for row in table if row["category"] == name):
            image = np.float64(_embedding(built, row["image_id"]))
            logit = np.exp(2.0) * image @ text - 1.0
            assert row["probability"] == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-5)
    [part] = built.embedded
    assert part.notes["clip"] == f"local-dir:{siglip}"
    assert part.notes["preprocessing"] == {
        "size": [160, 160],
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "interpolation": "bicubic",
        "resize_mode": "squash",
    }
    assert torch.tensor(_embedding(built, table[0]["image_id"])).shape == (64,)


def _embedding(built, image_id: str) -> np.ndarray:
    from storage.embeddings.parts import open_embeddings
    from tasks.stage.layout import RECORDS

    [part] = built.embedded
    ids = [row["image_id"] for row in rows_of(part, RECORDS)]
    return np.asarray(open_embeddings(part, EMBEDDINGS)[ids.index(image_id)])


def test_a_models_place_is_no_part_of_any_key_and_its_tokenizer_is(
    settings: BuildSettings, siglip: Path, tmp_path: Path
) -> None:
    before = build_here(settings)
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in siglip.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    moved = changed(settings, clip=f"local-dir:{copy}")
    assert build_cached(moved).dataset.key == before.dataset.key

    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    tokenizer["added_tokens"].reverse()
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    other = build_here(moved)
    assert other.embedded[0].key != before.embedded[0].key
    assert other.retrieval.key != before.retrieval.key


def test_the_summary_says_what_becomes_of_elongated_images(
    settings: BuildSettings, tmp_path: Path
) -> None:
    from PIL import Image

    Image.new("RGB", (300, 40), "white").save(tmp_path / "pictures" / "long.png")
    facts = summarise(build_here(settings), []).facts
    assert (
        "1 images are beyond 1.5 : 1; CLIP sees them squashed into a square" in (facts["elongated"])
    )


def test_search(
    settings: BuildSettings,
    siglip: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    build_here(settings)
    search.run("red bird", top=3, index="", clip="", device="cpu", store=settings.store)
    printed = capsys.readouterr().out
    assert "“red bird”" in printed
    assert printed.count("/pictures/") == 3


# --- what cannot work ---------------------------------------------------------------------------


def _maskclip(clip: str) -> DenseSegmenter:
    options = PredictOptions(
        images=("x.jpg",), checkpoint="maskclip", out=Path("out"), clip=clip, precision="float32",
        image_size=0,
    )  # fmt: skip
    return _segmenter("maskclip", ("red",), options, "cpu", InstanceSettings())


def _train(clip: str) -> None:
    training_config(TrainingSettings(clip=clip, device="cpu"))


def _then_train(clip: str) -> None:
    NextSteps(then="train", training=TrainingSettings(clip=clip, device="cpu")).check()


def _predict_with_maskclip(clip: str) -> None:
    _maskclip(clip)


def _evaluate_maskclip(clip: str) -> None:
    EvaluateConfig(
        method="maskclip", clip=resolve_clip(clip), evaluation_set="x", evaluation_digest="x"
    )


@pytest.mark.parametrize(
    ("ask", "purpose"),
    [
        (_train, "training"),
        (_then_train, "training"),
        (_predict_with_maskclip, "MaskCLIP"),
        (_evaluate_maskclip, "MaskCLIP"),
        (load_patch_features, "features of patches"),
    ],
)
def test_what_needs_patch_tokens_is_refused_before_the_model_is_loaded(
    ask: Callable[[str], object], purpose: str, siglip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("tasks.stage.models.load_state_dict", refuse)
    for clip, tower in ((str(siglip), "test_vit"), ("convnext_base:random:0", "convnext_base")):
        with pytest.raises(WeightsError) as caught:
            ask(clip)
        text = str(caught.value)
        assert f"can't be used for {purpose}: its image tower ({tower}) has no patch" in text
        assert "such as ViT-B-16-quickgelu:openai" in text
        assert "\n" not in text


def test_a_baseline_of_siglip_is_refused_before_the_build(
    siglip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.settings.next_steps.training_config", lambda _: None)
    monkeypatch.setattr("flows.settings.next_steps.opened_set", lambda _: None)
    monkeypatch.setattr("flows.settings.next_steps.asked_categories", lambda *_: None)
    evaluation = EvaluationSettings(on="coco:x.json", maskclip=str(siglip))
    steps = NextSteps(then="train+evaluate", evaluation=evaluation)
    with pytest.raises(WeightsError, match="can't be used for MaskCLIP"):
        steps.check()


def test_a_clip_that_open_clip_has_no_name_for_is_refused_for_training_alone(
    siglip: Path, tmp_path: Path
) -> None:
    def as_clip(config: dict[str, Any]) -> None:
        config["model_cfg"]["vision_cfg"] = {
            "image_size": 32, "patch_size": 16, "layers": 1, "width": 64, "head_width": 32
        }  # fmt: skip

    folder = write_siglip(tmp_path / "clip", siglip_config(as_clip))
    with pytest.raises(WeightsError, match="its architecture has no name in open_clip"):
        _train(str(folder))
    segmenter = _maskclip(str(folder))
    labels = segmenter.segment(np.zeros((40, 48, 3), np.uint8)).labels
    assert labels.shape == (40, 48)


def test_a_checkpoint_speaks_no_siglip(siglip: Path) -> None:
    with pytest.raises(WeightsError, match=r"is of made-ViT-8 and the CLIP .* of test_vit"):
        zutis_segmenter("made-ViT-8:random:0", ["red"], clip=str(siglip))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer"),
        (lambda f: (f / "open_clip_model.safetensors").unlink(), "has no weights"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer can't be read"),
        (
            lambda f: (f / "open_clip_config.json").write_text(
                json.dumps(siglip_config(lambda c: c["model_cfg"].update(embed_dim=32)))
            ),
            "can't be loaded as test_vit",
        ),
        (
            lambda f: save_file(
                {
                    name: tensor
                    for name, tensor in load_file(f / "open_clip_model.safetensors").items()
                    if name != "logit_bias"
                },
                f / "open_clip_model.safetensors",
            ),
            r"1 missing \(logit_bias\)",
        ),
    ],
)
def test_a_folder_that_is_not_whole_is_one_sentence(
    change: Callable[[Path], object], expected: str, settings: BuildSettings, tmp_path: Path
) -> None:
    folder = write_siglip(tmp_path / "broken")
    change(folder)
    with pytest.raises(ZutisError, match=expected) as caught:
        build_here(changed(settings, clip=str(folder)))
    assert "\n" not in str(caught.value)


def test_a_model_that_is_not_here_is_told_before_a_server_is_started(
    settings: BuildSettings,
) -> None:
    for clip in ("ViT-B-16-SigLIP2:webli", "hf-hub:someone/tiny"):
        with pytest.raises(WeightsError, match=f"zutis weights fetch {clip}"):
            build.find_outcome(changed(settings, clip=clip))
