"""`zutis selfmask train` on a small made world: from images to a file and figures."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
import torch
from PIL import Image

from flows.commands.selfmask import _training, run
from flows.settings.selfmask import SelfMaskSettings
from made_world.corpus import write_corpus
from storage.errors.exceptions import ConfigError, CorpusError, WeightsError
from storage.weights.state_dicts import load_state_dict
from tests.support.runs.command_line import said
from zutis_model.saliency.selfmask import load_selfmask

TINY = {
    "features": ("colours",), "width": 32, "layers": 1, "decoder_layers": 1, "queries": 2,
    "image_size": 32, "patches": 100, "steps": 3, "batch_size": 4, "device": "cpu",
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_corpus(folder, seed=970, count=14)
    return folder


def settings(world, tmp_path, **others):
    return SelfMaskSettings(
        **{
            **TINY,
            "corpus": (str(world / "pictures"),),
            "out": tmp_path / "s.safetensors",
            **others,
        }
    )


def test_a_training_ends_with_a_file_and_figures(world, tmp_path, capsys):
    figures = run(settings(world, tmp_path, truth=world / "truth.json"))
    assert figures.images == 14
    assert 8 <= figures.learned <= 14
    assert 0 < figures.dice < 1
    assert figures.votes_iou > 0.5
    assert 0 <= figures.network_iou <= 1
    network = load_selfmask(load_state_dict(tmp_path / "s.safetensors"))
    assert (network.sizes.width, network.sizes.queries, network.sizes.grid) == (32, 2, 4)
    printed = capsys.readouterr().out
    for part in ("14 images", "pseudo-masks from colours", "Mean IoU", "--mask-size 40"):
        assert part in printed


def test_a_pipe_hears_what_is_waited_for(world, tmp_path, capsys):
    run(settings(world, tmp_path))
    lines = capsys.readouterr().out.splitlines()
    told = [line.removesuffix(" …") for line in lines if line.endswith(" …")]
    assert told[:3] == ["Loading the networks", "Voting for masks", "training"]


def test_the_corpus_is_narrowed_down_and_the_rest_told(world, tmp_path, capsys):
    (world / "pictures/list.txt").write_text("")
    try:
        figures = run(settings(world, tmp_path, exclude=("*[0-4].*",), steps=1))
    finally:
        (world / "pictures/list.txt").unlink()
    left = [path for path in (world / "pictures").iterdir() if path.stem[-1] not in "01234"]
    assert figures.images == len(left) < 14
    assert f"{14 - len(left)} excluded, 1 txt." in capsys.readouterr().out


def test_without_truth_there_are_no_scores(world, tmp_path, capsys):
    figures = run(settings(world, tmp_path, max_images=6))
    assert figures.images == 6
    assert math.isnan(figures.votes_iou)
    assert math.isnan(figures.network_iou)
    assert "IoU" not in capsys.readouterr().out


def test_the_truth_can_be_learned(world, tmp_path, capsys):
    run(settings(world, tmp_path, truth=world / "truth.json", learn_truth=True, features=()))
    printed = capsys.readouterr().out
    assert "pseudo-masks" not in printed
    assert "network" in printed


def test_the_same_again_gives_the_same_file(world, tmp_path):
    run(settings(world, tmp_path))
    run(settings(world, tmp_path, out=tmp_path / "again.safetensors"))
    assert (tmp_path / "s.safetensors").read_bytes() == (
        tmp_path / "again.safetensors"
    ).read_bytes()


def test_a_file_is_adapted(world, tmp_path):
    run(settings(world, tmp_path))
    start = str(tmp_path / "s.safetensors")
    out = tmp_path / "t.safetensors"
    run(settings(world, tmp_path, start=start, width=64, learning_rate=1e-3, out=out))
    one, other = (load_state_dict(tmp_path / f"{name}.safetensors") for name in "st")
    assert one["query_embed"].shape == other["query_embed"].shape == (2, 32)
    assert not torch.equal(one["query_embed"], other["query_embed"])


def test_the_command(world, tmp_path):
    out = tmp_path / "c.safetensors"
    options = {
        "corpus": world / "pictures", "out": out, "features": "colours", "width": 32, "layers": 1,
        "image-size": 32, "patches": 100, "steps": 2, "max-images": 5,
    }  # fmt: skip
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    said("selfmask", "train", *words)
    assert out.is_file()


def test_nothing_stands_out(tmp_path, monkeypatch):
    """Tested with a vote that elects no mask: rounding decides the clusters of a uniform image."""
    monkeypatch.setattr("zutis_model.saliency.voting.elect_salient", lambda candidates: None)
    (tmp_path / "plain").mkdir()
    for number in range(2):
        rows = np.repeat(np.arange(48, dtype=np.uint8), 48).reshape(48, 48) // 24 * 200
        Image.fromarray(np.dstack([rows] * 3)).save(tmp_path / "plain" / f"{number}.png")
    with pytest.raises(CorpusError, match="none of the images has a salient object"):
        run(settings(tmp_path, tmp_path, corpus=(str(tmp_path / "plain"),)))
    assert not (tmp_path / "s.safetensors").exists()


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"width": 40}, "width is 40"),
        ({"queries": 0}, "queries is 0"),
        ({"minutes": -1.0}, "minutes is -1"),
        ({"precision": "float16"}, "precision is 'float16'"),
        ({"features": ()}, "No features"),
        ({"corpus": ()}, "needs corpus"),
        ({"learn_truth": True}, "no truth to learn"),
    ],
)
def test_settings_that_cant_work(others, message, world, tmp_path):
    with pytest.raises(ConfigError, match=message):
        settings(world, tmp_path, **others)


@pytest.mark.parametrize(
    ("others", "error", "message"),
    [
        ({"image_size": 30}, ConfigError, "image_size is 30"),
        ({"patches": 2}, ConfigError, "patches is 2"),
        ({"device": "tpu"}, ConfigError, "device is 'tpu'"),
        ({"features": ("made-ViT-8",)}, WeightsError, "names no weights"),
        ({"start": "nq30"}, WeightsError, "no SelfMask weights 'nq30'"),
    ],
)
def test_settings_that_cant_work_are_found_before_anything_is_read(
    others, error, message, tmp_path
):
    with pytest.raises(error, match=message):
        run(settings(tmp_path / "nowhere", tmp_path, **others))


def test_bad_names_and_truths(world, tmp_path):
    with pytest.raises(ConfigError, match="choose a name that ends with"):
        settings(world, tmp_path, out=tmp_path / "s.pt")
    with pytest.raises(ConfigError, match=r"truth\.json of a made corpus"):
        settings(world, tmp_path, truth=tmp_path / "truth.json")
    (tmp_path / "truth.json").write_text("{}")
    with pytest.raises(ConfigError, match="can't be read as the truth"):
        run(settings(world, tmp_path, truth=tmp_path / "truth.json"))
    empty = {"pictures": {}, "near_duplicates": {}, "broken": {}}
    (tmp_path / "truth.json").write_text(json.dumps(empty))
    with pytest.raises(ConfigError, match="about none of the images"):
        run(settings(world, tmp_path, truth=tmp_path / "truth.json"))


def test_the_rate_follows_the_start(tmp_path):
    """The paper's 6e-6 from trained weights; 1e-3 only for a network that starts from scratch."""
    given = {"corpus": ("pictures",), "out": tmp_path / "s.safetensors"}
    assert _training(SelfMaskSettings(**given)).learning_rate == 1e-3
    assert _training(SelfMaskSettings(**given, start="nq20")).learning_rate == 6e-6
    chosen = SelfMaskSettings(**given, start="nq20", learning_rate=2e-5)
    assert _training(chosen).learning_rate == 2e-5


def test_the_command_leaves_the_rate_to_the_start(tmp_path, monkeypatch):
    heard = []
    monkeypatch.setattr("flows.commands.selfmask.run", heard.append)
    words = ["--corpus", "pictures", "--out", str(tmp_path / "s.safetensors")]
    for more in ([], ["--start", "nq20"], ["--start", "nq20", "--learning-rate", "0.001"]):
        said("selfmask", "train", *words, *more)
    assert [_training(each).learning_rate for each in heard] == [1e-3, 6e-6, 1e-3]


def test_the_papers_recipe(tmp_path, monkeypatch):
    """The authors' configs/duts-dino-k234-nq20-224-swav-mocov2-dino-p16-sr10100.yaml."""
    heard = []
    monkeypatch.setattr("flows.commands.selfmask.run", heard.append)
    words = ["--corpus", "p", "--out", str(tmp_path / "s.safetensors"), "--start", "nq20"]
    for more in ([], ["--batch-size", "4"]):
        said("selfmask", "train", *words, "--recipe", "paper", *more)
    paper, other = heard
    config = _training(paper, learned=100)
    assert (config.learning_rate, config.weight_decay, config.schedule) == (6e-6, 0.01, "poly")
    assert (config.batch_size, config.image_size, config.views) == (8, 224, "scaled")
    assert (config.steps, config.warmup_steps) == (12 * 13, 0)  # an epoch has 13 batches
    assert (config.cross_entropy_weight, config.ranking_weight) == (0, 1)
    assert paper.max_images == 0
    assert _training(other, learned=100).steps == 12 * 25


def test_the_papers_recipe_goes_on_from_something(tmp_path):
    with pytest.raises(ConfigError, match="recipe paper is for weights that know much already"):
        SelfMaskSettings(corpus=("p",), out=tmp_path / "s.safetensors", recipe="paper")
    with pytest.raises(ConfigError, match="recipe is 'papers': choose paper"):
        SelfMaskSettings(corpus=("p",), out=tmp_path / "s.safetensors", recipe="papers")


def test_rounds_are_counted_in_images_that_are_learned(world, tmp_path, capsys):
    run(settings(world, tmp_path, epochs=2, steps=1, views="scaled", schedule="poly"))
    printed = capsys.readouterr().out
    assert "--mask-size 32" in printed
    assert re.search(r"100.0%: step [4-8],", printed)
