"""The stage `train`: its files, its key, and the settings that it refuses."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from flows.summaries.training import training_facts
from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.errors.exceptions import ArtifactError, ConfigError, CorpusError, WeightsError
from storage.images.records import write_parquet
from storage.shards.writing import Sample, ShardWriter, encode_jpeg
from storage.vocabularies.vocabulary import Category
from tasks.prediction.checkpoint import open_checkpoint
from tasks.prediction.segmenter import zutis_segmenter
from tasks.stage.contract import SilentProgress
from tasks.stage.models import load_clip_model
from tasks.training import train
from tasks.training.log import COLUMNS
from tasks.training.samples import SampleRecipe
from tasks.training.state import TrainingStates
from tasks.training.step import Optimisation
from tests.support.runs.builds import clip
from tests.support.runs.small_training import CountingProgress
from zutis_model.zutis.network import load_zutis

pytestmark = pytest.mark.slow

CATEGORIES = ("cat", "dog", "red kite")


def publish_dataset(
    store: ArtifactStore,
    labels: tuple[int, ...] = (1, 1, 2, 2),
    words: dict[str, dict[str, list[str]]] | None = None,
    qualities: tuple[float | None, ...] = (),
) -> Artifact:
    """A data set of images of noise with a rectangle each; "red kite" has none by default."""
    words = words or {}
    config = {"labels": labels, "words": words, "qualities": qualities}
    recipe = Recipe(stage="assemble_dataset", version=1, config=config)
    rng = np.random.default_rng(0)
    with store.attempt(ArtifactRef("assemble_dataset", recipe.key())) as attempt:
        with attempt.create("small-000000.tar") as file:
            writer = ShardWriter(file, len(CATEGORIES))
            for number, label in enumerate(labels):
                image = Image.fromarray(rng.integers(0, 256, (48, 72, 3), dtype=np.uint8))
                mask = np.zeros((48, 72), dtype=bool)
                mask[10:30, 15:50] = True
                entry = {"category_id": label, "quality": qualities[number]} if qualities else {}
                facts = {"label": label, "categories": [entry]} if qualities else {}
                writer.write(Sample(f"{number:04d}", encode_jpeg(image), mask, label, facts))
            table = writer.close()
        names = pa.array(["small-000000.tar"] * len(labels), pa.string())
        with attempt.create("index.parquet") as file:
            write_parquet(table.add_column(0, "shard", names), file)
        attempt.create_json(
            "vocabulary.json",
            [
                {"category_id": number, "name": name, "external_id": "", **words.get(name, {})}
                for number, name in enumerate(CATEGORIES, start=1)
            ],
        )
        return store.publish(attempt, recipe)


def config_of(**changes: Any) -> train.Config:
    small: dict[str, Any] = {
        "clip": clip(),
        "optimisation": Optimisation(iterations=4, batch_size=2),
        "samples": SampleRecipe(crop=64, max_objects=3),
        "num_queries": 6,
        "num_decoder_layers": 2,
        "num_heads": 4,
        "workers": 0,
        "checkpoint_every": 2,
    }
    return train.Config(**(small | changes))


def run(config: train.Config, dataset: Artifact) -> Artifact:
    return train.run(config, train.Inputs(dataset.ref), dataset.store, SilentProgress())


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Artifact:
    store = ArtifactStore(str(tmp_path_factory.mktemp("trained")))
    return run(config_of(), publish_dataset(store))


def test_the_model_loads_as_the_card_describes_it(trained):
    from safetensors.torch import load

    card = trained.read_json(train.MODEL_CARD)
    with trained.open(train.MODEL) as file:
        weights = load(file.read())
    network = load_zutis(weights, architecture=card["architecture"], num_heads=card["num_heads"])
    assert len(network.query_embed) == card["num_queries"] == 6
    assert len(network.decoder.layers) == card["num_decoder_layers"] == 2
    output = network(torch.zeros(1, 3, 64, 64))
    assert output.mask_logits.isfinite().all()


def test_the_weights_are_no_longer_those_of_the_start(trained):
    from safetensors.torch import load

    with trained.open(train.MODEL) as file:
        weights = load(file.read())
    tower = load_clip_model(clip()).model.visual.state_dict()
    moved = (weights["encoder.proj"] - tower["proj"]).abs().max().item()
    assert 0 < moved < 4 * 5e-6 * 1.5


def test_the_description_names_the_models_origin(trained):
    card = trained.read_json(train.MODEL_CARD)
    assert card["categories"] == ["cat", "dog", "red kite"]
    assert card["prompts"] == [["cat"], ["dog"], ["red kite"]]
    assert card["untrained"] is True
    assert card["clip"] == "made-ViT-8:random:0 (untrained)"
    assert card["clip_digest"] == "random:0"
    assert card["config"]["optimisation"]["iterations"] == 4
    assert card["dataset"] == trained.manifest["inputs"]["dataset"]


def test_text_embeddings_are_those_of_the_bare_names_behind_the_background(trained):
    with trained.open(train.TEXT_EMBEDDINGS) as file:
        rows = np.load(file)
    model = load_clip_model(clip())
    expected = model.embed_prompts(["background", "cat", "dog", "red kite"])
    expected = torch.nn.functional.normalize(expected, dim=-1)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, expected.numpy(), atol=1e-6)


def test_the_vocabularys_prompts_and_synonyms_are_trained_with(tmp_path):
    words = {"dog": {"prompts": ["a {} of {{any}} kind"]}, "red kite": {"synonyms": ["milan"]}}
    dataset = publish_dataset(ArtifactStore(str(tmp_path)), words=words)
    trained = run(config_of(optimisation=Optimisation(iterations=1, batch_size=2)), dataset)

    sentences = [["cat"], ["a dog of {any} kind"], ["red kite", "milan"]]
    assert trained.read_json(train.MODEL_CARD)["prompts"] == sentences
    with trained.open(train.TEXT_EMBEDDINGS) as file:
        rows = np.load(file)
    model = load_clip_model(clip())
    for row, several in zip(rows, [["background"], *sentences], strict=True):
        expected = model.ensemble(model.embed_prompts(several))
        np.testing.assert_allclose(row, expected.numpy(), atol=1e-6)

    checkpoint = open_checkpoint(trained.location)
    for names in (["dog", "red kite"], [Category(name="dog"), Category(name="red kite")]):
        segmenter = zutis_segmenter(checkpoint, names)
        np.testing.assert_allclose(segmenter._text_embeddings[1:], rows[2:], atol=1e-6)
    own = zutis_segmenter(checkpoint, [Category(name="dog", prompts=("a wolf",))])
    assert np.abs(own._text_embeddings[1].numpy() - rows[2]).max() > 1e-3


def test_the_table_ends_with_the_last_iteration(trained):
    with trained.open(train.TRAINING_TABLE) as file:
        rows = list(csv.DictReader(file.read().decode().splitlines()))
    assert [row["step"] for row in rows] == ["4"]
    assert float(rows[0]["loss"]) > 0
    assert trained.notes["last"]["step"] == 4


def test_nothing_else_is_left_beside_the_artifact(trained):
    folder = Path(trained.store.location(trained.ref))
    left = {path.name for path in folder.iterdir()} - {".tensorboard"}
    assert left == {"manifest.json", trained.manifest["attempt"]}


def test_equal_runs_give_equal_bytes_with_any_other_settings(trained, tmp_path):
    again = run(
        config_of(workers=1, checkpoint_every=3, keep_checkpoints=1),
        publish_dataset(ArtifactStore(str(tmp_path))),
    )
    assert again.ref == trained.ref
    assert again.files[train.MODEL] == trained.files[train.MODEL]
    assert again.files[train.TRAINING_TABLE] == trained.files[train.TRAINING_TABLE]


@pytest.mark.parametrize(
    "change",
    [
        {"optimisation": Optimisation(iterations=4, batch_size=2, learning_rate=1e-4)},
        {"optimisation": Optimisation(iterations=4, batch_size=2, ema_decay=0.9)},
        {"samples": SampleRecipe(crop=64, max_objects=4)},
        {"num_queries": 7},
        {"stop_gradient": False},
        {"seed": 1},
        {"clip": replace(clip(), precision="bfloat16")},
    ],
)
def test_settings_that_affect_the_weights_are_in_the_key(store, change):
    inputs = train.Inputs(ArtifactRef("assemble_dataset", "any"))
    key = train.locate(config_of(), inputs, store)
    assert train.locate(config_of(**change), inputs, store) != key


@pytest.mark.parametrize(
    "change",
    [
        {"clip": replace(clip(), device="cuda")},
        {"workers": 9},
        {"micro_batch": 1},
        {"checkpoint_every": 7},
        {"keep_checkpoints": 7},
        {"log_every": 7},
        {"compiled": True},
        {"missing_categories": "stop"},
    ],
)
def test_settings_that_do_not_affect_the_weights_are_not_in_the_key(store, change):
    inputs = train.Inputs(ArtifactRef("assemble_dataset", "any"))
    assert train.locate(config_of(**change), inputs, store) == train.locate(
        config_of(), inputs, store
    )


def test_another_data_set_is_another_training(store):
    refs = [ArtifactRef("assemble_dataset", name) for name in ("one", "other")]
    first, second = (train.locate(config_of(), train.Inputs(ref), store) for ref in refs)
    assert first != second


def test_a_category_without_samples_is_named_and_refused_on_request(store):
    dataset = publish_dataset(store)
    with pytest.raises(CorpusError, match=r"1 of the 3 categories .* no sample \(red kite\)"):
        run(config_of(missing_categories="stop"), dataset)
    assert store.published(train.NAME) == []


def test_an_empty_data_set_is_refused(store):
    with pytest.raises(ArtifactError, match="no sample"):
        run(config_of(), publish_dataset(store, labels=()))


def test_a_damaged_shard_is_named_and_a_checkpoint_is_kept(store):
    dataset = publish_dataset(store)
    shard = Path(dataset.uri("small-000000.tar"))
    bytes_before = shard.read_bytes()

    class Damaging(SilentProgress):
        def advance(self, amount: int = 1, *, rejected: str = "", **counts: int) -> None:
            if amount:
                shard.write_bytes(b"\0" * len(bytes_before))

    config, inputs = config_of(), train.Inputs(dataset.ref)
    with pytest.raises(ArtifactError, match=r"Sample .* is damaged") as caught:
        train.run(config, inputs, store, Damaging())
    assert "\n" not in str(caught.value)
    assert TrainingStates(store, train.locate(config, inputs, store)).steps() == [1]
    shard.write_bytes(bytes_before)
    assert run(config, dataset).counts["iterations"] == 4


def test_heads_that_do_not_divide_the_width_are_one_sentence(store):
    with pytest.raises(WeightsError, match="can't be trained: num_heads is 7"):
        run(config_of(num_heads=7), publish_dataset(store))


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_queries", 0), ("num_heads", 0), ("seed", -1), ("workers", -1), ("micro_batch", 0),
     ("checkpoint_every", 0), ("keep_checkpoints", 0), ("log_every", 0),
     ("missing_categories", "ask")],
)  # fmt: skip
def test_settings_that_cannot_work_are_named(name, value):
    with pytest.raises(ConfigError, match=f"{name} is {value!r}"):
        config_of(**{name: value})


def test_a_training_that_broke_goes_on_to_the_same_bytes(tmp_path, trained):
    """As after SIGKILL, for which `test_loop.py` and the fault tests have processes."""

    def fail(steps: int) -> None:
        if steps == 3:
            raise OSError("the machine went away")

    store = ArtifactStore(str(tmp_path))
    config, inputs = config_of(), train.Inputs(publish_dataset(store).ref)
    with pytest.raises(OSError, match="went away"):
        train.run(config, inputs, store, CountingProgress(fail))
    assert TrainingStates(store, trained.ref).steps() == [2]
    told: list[int] = []
    again = train.run(config, inputs, store, CountingProgress(told.append))
    assert told == [2, 3, 4]
    assert again.ref == trained.ref
    assert again.files[train.MODEL] == trained.files[train.MODEL]
    assert again.files[train.TRAINING_TABLE] == trained.files[train.TRAINING_TABLE]
    assert TrainingStates(store, trained.ref).steps() == []


def test_tensorboard_has_the_table(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(f"{trained.store.location(trained.ref)}/.tensorboard")
    events.Reload()
    assert {*COLUMNS[1:], "samples_per_second", "waiting"} <= set(events.Tags()["scalars"])
    [loss] = events.Scalars("loss")
    assert loss.step == 4
    assert loss.value == pytest.approx(trained.notes["last"]["loss"], rel=1e-5)


# --- quality of labels --------------------------------------------------------------------------


def test_losses_are_weighted_by_quality(tmp_path, caplog):
    dataset = publish_dataset(ArtifactStore(str(tmp_path)), qualities=(0.1, 0.9, None, 0.5))
    caplog.set_level("INFO", logger="tasks")
    plain, weighted = (run(config_of(weight_by=way), dataset) for way in ("none", "quality"))
    assert plain.key != weighted.key
    assert plain.files[train.MODEL] != weighted.files[train.MODEL]
    assert "weight_by" not in plain.read_json(train.MODEL_CARD)["config"]
    assert weighted.read_json(train.MODEL_CARD)["config"]["weight_by"] == "quality"
    words = "mean quality 0.50, 1 of 4 have none"
    for trained in (plain, weighted):
        assert trained.notes["quality"] == {"mean": 0.5, "labels": 4, "without_quality": 1}
        assert words in training_facts(trained)["labels"]
    said = [record.message for record in caplog.records if "mean quality" in record.message]
    assert said == [f"Labels: {words}", f"Labels: {words}, losses weighted by quality"]


def test_equal_qualities_give_the_same_bytes_as_no_weights(tmp_path):
    dataset = publish_dataset(ArtifactStore(str(tmp_path)), qualities=(0.5, 0.5, None, 0.5))
    plain, weighted = (run(config_of(weight_by=way), dataset) for way in ("none", "quality"))
    for name in (train.MODEL, train.TRAINING_TABLE):
        assert plain.files[name] == weighted.files[name]


def test_of_a_data_set_without_quality_nothing_is_said(trained):
    assert "quality" not in trained.notes
    assert "labels" not in training_facts(trained)


@pytest.mark.parametrize("qualities", [(), (None,) * 4])
def test_weights_without_any_quality_are_refused(tmp_path, qualities):
    dataset = publish_dataset(ArtifactStore(str(tmp_path)), qualities=qualities)
    with pytest.raises(ConfigError, match=r"weight_by is quality, and no label of .* has one"):
        run(config_of(weight_by="quality"), dataset)


def test_weight_by_something_else():
    with pytest.raises(ConfigError, match="weight_by is 'size': choose none or quality"):
        config_of(weight_by="size")
