"""Odd numbers and names from users give settings, or an error of one sentence."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.cli import exit_code_of, run_command_line
from flows.commands.predict import predict
from flows.pipelines.build import _check_settings
from flows.prefect_server.served import choose_address
from flows.settings.build import BuildSettings, clip_model, file_name_of, selfmask_model
from flows.settings.devices import choose_device, require_device
from flows.settings.evaluation import EvaluationSettings
from flows.settings.named_values import read_values
from flows.settings.next_steps import NextSteps
from flows.settings.options import Settings
from flows.settings.prediction import PredictOptions
from flows.settings.recipes import RECIPE_NAMES, published_recipe
from flows.settings.selfmask import SelfMaskSettings
from flows.settings.training import TrainingSettings, training_config
from storage.artifacts.store import ArtifactStore
from storage.errors.exceptions import ConfigError
from storage.errors.numbers import check_named_numbers
from tasks.prediction.segmenter import InstanceSettings
from tests.support.files.fuzzing import (
    damaged,
    few,
    harmless,
    near_json,
    numbers,
    odd_values,
    texts,
)
from tests.support.runs.builds import CLIP, SELFMASK, write_vocabulary

pytestmark = pytest.mark.slow


def numeric(kind: type) -> list[str]:
    """The fields of a settings class or a dataclass that hold numbers."""
    hints = get_type_hints(kind)
    names = (
        kind.model_fields if issubclass(kind, Settings) else [each.name for each in fields(kind)]
    )
    return [name for name in names if hints[name] in (int, float, float | None)]


def changes(kind: type) -> st.SearchStrategy[dict[str, Any]]:
    """Odd values for one or two numeric fields of a dataclass."""
    return st.dictionaries(st.sampled_from(numeric(kind)), numbers, min_size=1, max_size=2)


MODELS = clip_model(CLIP, "cpu", "float32"), selfmask_model(SELFMASK, "cpu", "float32")


@few(300)
@given(changes(BuildSettings))
def test_numbers_of_a_build(given_numbers: dict[str, Any]) -> None:
    settings = harmless(lambda: BuildSettings(corpus=("x",), vocabulary="voc2012", **given_numbers))
    if settings is not None:
        harmless(lambda: _check_settings(settings, *MODELS))


@few(150)
@given(
    st.dictionaries(
        st.sampled_from([name for name in BuildSettings.model_fields
                         if name not in (*numeric(BuildSettings), "corpus", "include", "exclude",
                                         "absolute_paths", "repair")]),
        texts, min_size=1, max_size=2)
)  # fmt: skip
def test_texts_of_a_build(given_texts: dict[str, Any]) -> None:
    values = {"corpus": ("x",), "vocabulary": "voc2012", **given_texts}
    settings = harmless(lambda: BuildSettings(**values))
    if settings is not None:
        clip = harmless(lambda: clip_model(settings.clip, settings.device, settings.precision))
        mask = harmless(
            lambda: selfmask_model(settings.selfmask, settings.device, settings.precision)
        )
        harmless(lambda: _check_settings(settings, clip or MODELS[0], mask or MODELS[1]))


TRAINING = TrainingSettings(clip=CLIP, device="cpu", precision="float32").model_dump(mode="json")
EVALUATION = {
    "on": "voc2012-val", "classes": {"cat": "dog"}, "vocabulary": "voc2012", "limit": 3,
    "threshold": 0.5, "temperature": 5.0, "sigma": 0.5, "score_threshold": 0.001, "seen": ["cat"],
    "min_score": 0.0, "image_size": 1024, "suppression": "hard", "suppression_threshold": 0.3,
}  # fmt: skip


@few(300)
@given(st.dictionaries(st.sampled_from(sorted(TRAINING)), odd_values, min_size=1, max_size=2))
def test_settings_of_a_training(values: dict[str, Any]) -> None:
    settings = harmless(lambda: TrainingSettings(**{**TRAINING, **values}))
    if settings is not None:
        harmless(lambda: training_config(settings))
        harmless(lambda: NextSteps(then="train", training=settings))


@few(200)
@given(st.dictionaries(st.sampled_from(sorted(EVALUATION)), odd_values, min_size=1, max_size=2))
def test_settings_of_an_evaluation(values: dict[str, Any]) -> None:
    chosen = {**EVALUATION, **values}
    settings = harmless(lambda: EvaluationSettings(**chosen))
    if settings is not None:
        harmless(lambda: settings.instances)


@few(100)
@given(changes(InstanceSettings))
def test_settings_of_instances(values: dict[str, Any]) -> None:
    harmless(lambda: InstanceSettings(**values))


@few(200)
@given(changes(SelfMaskSettings))
def test_numbers_of_selfmask(values: dict[str, Any]) -> None:
    harmless(lambda: SelfMaskSettings(corpus=("x",), out=Path("x.safetensors"), **values))


@few(200)
@given(
    st.none() | texts | st.sampled_from(["::1", "fe80::1%eth0", "[::1]", "a b", "http://x", "0"]),
    st.none() | st.integers() | st.integers(0, 70_000),
    st.none() | texts | texts.map(lambda text: f"http://{text}/api"),
)
def test_where_a_server_listens(host: str | None, port: int | None, configured: str | None) -> None:
    harmless(lambda: choose_address(host, port, configured))


PREDICTING = {
    "suppression_threshold": 0.3, "sigma": 0.5, "min_score": 0.5, "image_size": 96, "batch_size": 1,
}  # fmt: skip


@few(100)
@given(st.dictionaries(st.sampled_from(sorted(PREDICTING)), numbers, min_size=1, max_size=2))
def test_numbers_of_a_prediction(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]
) -> None:
    """Run a command on a corpus without images, as far as the search for images."""
    folder = tmp_path_factory.getbasetemp()
    given_numbers = {**PREDICTING, **values}
    settings = harmless(
        lambda: PredictOptions(
            images=(str(folder / "none"),), checkpoint="x", out=folder / "out", categories="cat",
            device="cpu", **given_numbers,
        )
    )  # fmt: skip
    if settings is not None:
        harmless(lambda: predict(settings))


@few(200)
@given(st.sampled_from(["iterations", "leave_out", "jitter", "clip", "recipe", "x", ""]), texts)
def test_values_on_the_command_line(name: str, text: str) -> None:
    for item in (f"{name}={text}", text, name):
        values = harmless(lambda item=item: read_values([item]))
        if values:
            harmless(lambda values=values: TrainingSettings(**values))


@few(150)
@given(near_json(TRAINING) | damaged(b"iterations: 10\ncrop: 96\njitter: [0.4, 0.4, 0.4, 0.1]\n"))
def test_files_of_settings(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "settings.yaml"
    file.write_bytes(content)
    values = harmless(lambda: read_values([str(file)]))
    if values:
        harmless(lambda: TrainingSettings(**values))
        harmless(lambda: EvaluationSettings(**values))


@few(100)
@given(texts | st.integers().map(lambda number: f"cuda:{number}"))
def test_names(text: str) -> None:
    harmless(lambda: choose_device(text))
    harmless(lambda: require_device(text))
    harmless(lambda: published_recipe(text))
    assert file_name_of(text).isascii()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"shard_mb": float("inf")},
            "shard_mb is inf: choose a number of at most 2,147,483,647",
        ),
        ({"shard_mb": float("nan")}, "shard_mb is nan: choose a number"),
        ({"per_category": 10**30 + 1}, "per_category is a number of 100 bits: choose"),
        ({"min_margin": float("nan")}, "min_margin is nan"),
        ({"device": "cuda:99999999999999999999"}, "choose auto, cpu, cuda or cuda:N"),
    ],
)
def test_what_no_machine_can_use(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        _placed_build(values)


def _placed_build(values: dict[str, Any]) -> None:
    settings = BuildSettings(corpus=("x",), vocabulary="voc2012", **values)
    clip_model(CLIP, settings.device, "float32")


def test_recipes_and_seeds_are_within_bounds() -> None:
    for name in RECIPE_NAMES:
        assert TrainingSettings(**{"recipe": name}).recipe == name
    check_named_numbers(
        {"seed": 2**63 - 1, "n": 2**31 - 1, "text": "x", "flag": True, "none": None}
    )
    with pytest.raises(ConfigError, match="n is 2147483648: choose"):
        check_named_numbers({"n": 2**31})


@pytest.mark.parametrize(
    "options",
    [
        ["--shard-mb", "inf"], ["--shard-mb", "nan"], ["--per-category", "9" * 5_000],
        ["--workers", "99999999999999999999"], ["--name", "a\udce9"], ["--min-score", "nan"],
        ["--device", "cuda:99999999999999999999"], ["--vocabulary", "a\udce9.yaml"],
        ["--corpus", "\udce9"], ["--store", "\udce9\n"], ["--clip", "a\udce9:b"],
    ],
)  # fmt: skip
def test_the_command_ends_in_a_sentence(tmp_path: Path, options: list[str]) -> None:
    words = write_vocabulary(tmp_path / "v.txt", ["owl"])
    usual = ["--corpus", str(tmp_path), "--vocabulary", str(words)]
    usual += ["--store", str(tmp_path / "store"), "--clip", CLIP, "--selfmask", SELFMASK]
    assert exit_code_of(lambda: run_command_line(["build", *usual, *options])) == 2


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    for name in ("vocabulary", "store", "clip", "selfmask", "include"):
        wrong = ("a\udce9",) if name == "include" else "a\udce9"
        with pytest.raises(ConfigError, match=rf"{name} is 'a\\udce9', whose bytes are no UTF-8"):
            BuildSettings(**{"corpus": ("x",), "vocabulary": "voc2012", name: wrong})
    with pytest.raises(ConfigError, match="has a name that is no UTF-8"):
        ArtifactStore(str(tmp_path / "a\udce9"))
