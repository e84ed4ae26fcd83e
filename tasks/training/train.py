"""The stage `train`: ZUTIS trained on a data set of pseudo-labels (Shin et al. 2023).

The method is the paper's, and the defaults are the reference's configurations for COCO and CoCA;
those for ImageNet-S train four times as long. CLIP's image tower is fine-tuned end to end; the
text embeddings of the categories are frozen. A stopped run resumes from its latest checkpoint: see
`tasks.training.loop` and `tasks.training.state`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from storage.artifacts.fingerprints import Recipe, unless_default
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.embeddings.parts import write_embeddings
from storage.errors.exceptions import ConfigError, CorpusError, WeightsError
from storage.errors.numbers import check_numbers
from storage.errors.sentences import listed
from storage.files.filesystems import is_local
from storage.shards.samples import ShardSamples
from storage.vocabularies.vocabulary import BACKGROUND, Category, category_prompts
from tasks.categories.category_texts import BARE_NAME
from tasks.stage.contract import Progress, waiting
from tasks.stage.models import ModelConfig, load_clip_model, require_trainable
from tasks.training.batches import batches_from
from tasks.training.log import TrainingLog
from tasks.training.loop import LoopSettings, run_training
from tasks.training.preview import draw_preview
from tasks.training.processes import Processes, joined_processes
from tasks.training.quality_weights import LabelQuality, read_quality
from tasks.training.samples import SampleRecipe
from tasks.training.state import TrainingStates
from tasks.training.step import Optimisation, Trainer

if TYPE_CHECKING:
    from tasks.training.loop import MakeBatches
    from zutis_model.zutis.network import Zutis

NAME = "train"
VERSION = 1

MODEL = "model.safetensors"
MODEL_CARD = "model.json"
TEXT_EMBEDDINGS = "text_embeddings.npy"
TRAINING_TABLE = "training.csv"
TRAINING_PREVIEW = "training.png"

WeightBy = Literal["none", "quality"]
"""What decides the weight of an object's losses."""

_TENSORBOARD = ".tensorboard"
_NAMES_SHOWN = 5

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the training.

    Attributes:
        clip: the CLIP from which training starts, with precision and device of the network. Text
            embeddings are computed in float32 on the CPU.
        optimisation: hyperparameters.
        samples: distribution of the training samples.
        num_queries, num_decoder_layers, num_heads: of the decoder.
        stop_gradient: the instance branch does not train the encoder.
        seed: of the initial weights and of the samples.
        leave_out: names of categories to exclude, for an evaluation on unseen categories.
        weight_by: factors of the objects' losses: none, or their labels' quality; see
            `tasks.training.quality_weights`.
        missing_categories: whether to train although a category has no sample, or to stop.
        workers: processes that make samples. From here on, nothing is part of the key.
        micro_batch: images per forward and backward pass; None: all of a batch.
        checkpoint_every: iterations between checkpoints.
        keep_checkpoints: number of latest checkpoints to keep.
        log_every: iterations between rows of `training.csv`.
        compiled: compile the network with torch; worthwhile on a GPU.
    """

    clip: ModelConfig
    optimisation: Optimisation = field(default_factory=Optimisation)
    samples: SampleRecipe = field(default_factory=SampleRecipe)
    num_queries: int = 100
    num_decoder_layers: int = 6
    num_heads: int = 8
    stop_gradient: bool = True
    seed: int = 0
    leave_out: tuple[str, ...] = ()
    weight_by: WeightBy = "none"
    missing_categories: Literal["train", "stop"] = "train"
    workers: int = 2
    micro_batch: int | None = None
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    log_every: int = 50
    compiled: bool = False

    def __post_init__(self) -> None:
        check_numbers(self)
        for name, least in (
            ("num_queries", 1), ("num_decoder_layers", 1), ("num_heads", 1), ("seed", 0),
            ("workers", 0), ("micro_batch", 1), ("checkpoint_every", 1), ("keep_checkpoints", 1),
            ("log_every", 1),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name} is {value}: choose {least} or more.")
        if self.weight_by not in get_args(WeightBy):
            raise ConfigError(f"weight_by is {self.weight_by!r}: choose none or quality.")
        if self.missing_categories not in ("train", "stop"):
            raise ConfigError(
                f"missing_categories is {self.missing_categories!r}: choose train or stop."
            )
        require_trainable(self.clip)

    @property
    def deciding(self) -> dict[str, Any]:
        """The settings that determine the weights. (`missing_categories` only determines whether
        there are any.)"""
        return {
            **self.clip.identity,
            "optimisation": asdict(self.optimisation),
            "samples": asdict(self.samples),
            "num_queries": self.num_queries,
            "num_decoder_layers": self.num_decoder_layers,
            "num_heads": self.num_heads,
            "stop_gradient": self.stop_gradient,
            "seed": self.seed,
            "leave_out": sorted(self.leave_out),
            **unless_default(self, "weight_by"),
        }


@dataclass(frozen=True)
class Inputs:
    """The data set, made by `assemble_dataset`."""

    dataset: ArtifactRef


def _recipe(config: Config, inputs: Inputs) -> Recipe:
    return Recipe(
        stage=NAME,
        version=VERSION,
        config=config.deciding,
        weights={"clip": config.clip.weights.digest},
        inputs={"dataset": inputs.dataset.key},
    )


def locate(config: Config, inputs: Inputs, store: ArtifactStore) -> ArtifactRef:
    return ArtifactRef(NAME, _recipe(config, inputs).key())


def run(config: Config, inputs: Inputs, store: ArtifactStore, progress: Progress) -> Artifact:
    """Train, from the latest checkpoint of this run if there is one.

    Publishes `model.safetensors` (tensors named as in the published checkpoints), `model.json`
    (architecture, categories, settings), `text_embeddings.npy` (float32 [k + 1, d], unit rows, row
    0 the background), `training.csv` (see `tasks.training.log`) and `training.png` (the last
    training crops, with pseudo-labels and predictions).

    Under `torchrun`, the processes train one network together, and the first one writes. All of
    them must use the same store.

    Raises:
        ConfigError: a category to leave out is not in the data set, or losses are to be weighted
            by quality and no label has any.
        CorpusError: the data set is empty, or a category has no sample and `missing_categories` is
            `stop`.
        ZutisError: see `tasks.training.loop.run_training`.
    """
    shards = ShardSamples.open(store.get(inputs.dataset), config.leave_out)
    categories = _categories(shards)
    _check_categories(shards, config.missing_categories, progress)
    with waiting(progress, "reading the labels' quality"):
        quality = read_quality(shards)
    weights = _weights(config, shards, quality)
    ref = locate(config, inputs, store)
    states = TrainingStates(store, ref, config.keep_checkpoints)
    prompts = [list(category_prompts(category, BARE_NAME)) for category in categories]
    with waiting(progress, "embedding the categories' prompts"):
        texts = text_embeddings(config.clip, prompts)
    joined = joined_processes(config.clip.device, config.optimisation.batch_size)
    with joined as (processes, device):
        with waiting(progress, "loading the network"):
            trainer = _trainer(config, texts, shards.ignore_label, device, processes)
        training_log = _training_log(config, trainer, store, ref)
        if quality is not None and processes.rank == 0:
            log.info("%s", quality.sentence(weighted=config.weight_by == "quality"))
        make_batches = _make_batches(config, shards, weights, processes, on_gpu=device != "cpu")
        settings = LoopSettings(
            iterations=config.optimisation.iterations, checkpoint_every=config.checkpoint_every
        )
        try:
            run_training(trainer, make_batches, states, training_log, settings, progress)
        finally:
            training_log.close()
        if processes.rank == 0:
            names = [category.name for category in categories]
            _publish(config, inputs, store, trainer, training_log, texts, names, prompts, quality)
            states.discard()
        processes.wait()
        return store.get(ref)


def text_embeddings(clip: ModelConfig, prompts: Sequence[Sequence[str]]) -> np.ndarray:
    """Embeddings of the background and of each category's prompts: float32 [k + 1, d], unit rows.

    Each category passes the text tower separately, so that its row doesn't depend on the others.
    """
    model = load_clip_model(replace(clip, device="cpu", precision="float32"))
    rows = [model.ensemble(model.embed_prompts(several)) for several in ([BACKGROUND], *prompts)]
    return np.stack([row.cpu().numpy() for row in rows]).astype(np.float32)


def _categories(shards: ShardSamples) -> list[Category]:
    """The categories 1 to k: a label is a row of the text embeddings."""
    if list(shards.categories) != list(range(1, len(shards.categories) + 1)):
        raise CorpusError(
            f"The categories of {shards.name} are not numbered 1 to {len(shards.categories)}: "
            "assemble the data set again."
        )
    return list(shards.vocabulary.values())


def _check_categories(
    shards: ShardSamples, missing: Literal["train", "stop"], progress: Progress
) -> None:
    """Report the categories that have no sample, or refuse them."""
    absent = list(shards.categories_without_samples().values())
    if not absent:
        return
    found = (
        f"{len(absent)} of the {len(shards.categories)} categories of {shards.name} have no sample "
        f"({listed(absent, _NAMES_SHOWN)})"
    )
    if missing == "stop":
        raise CorpusError(f"{found}: add images of them, or set missing_categories to train.")
    progress.warn(f"{found}; the others are trained.")


def _weights(
    config: Config, shards: ShardSamples, quality: LabelQuality | None
) -> npt.NDArray[np.float32] | None:
    """A factor of the losses for each sample; None for no factors."""
    if config.weight_by == "none":
        return None
    if quality is None:
        raise ConfigError(
            f"weight_by is quality, and no label of {shards.name} has one: build with --quality, "
            "or set weight_by to none."
        )
    return quality.weights(shards, config.samples.same_category_probability)


def _trainer(
    config: Config, texts: np.ndarray, ignore_index: int, device: str, processes: Processes
) -> Trainer:
    import torch

    network = _network(config).to(device)
    if config.compiled:
        network.compile()
    return Trainer(
        network,
        torch.from_numpy(texts),
        config.optimisation,
        ignore_index=ignore_index,
        micro_batch=config.micro_batch,
        processes=processes,
    )


def _network(config: Config) -> Zutis:
    from zutis_model.zutis.initialisation import initialise_zutis

    clip = load_clip_model(replace(config.clip, device="cpu", precision="float32"))
    try:
        return initialise_zutis(
            clip,
            config.clip.architecture,
            num_queries=config.num_queries,
            num_decoder_layers=config.num_decoder_layers,
            num_heads=config.num_heads,
            stop_gradient=config.stop_gradient,
            seed=config.seed,
            precision=config.clip.precision,  # type: ignore[arg-type]
        )
    except ValueError as error:
        raise WeightsError(f"{config.clip.weights.label} can't be trained: {error}.") from error


def _training_log(
    config: Config, trainer: Trainer, store: ArtifactStore, ref: ArtifactRef
) -> TrainingLog:
    is_first = trainer.processes.rank == 0
    writes_events = is_first and is_local(store.root)
    return TrainingLog(
        trainer.text_embeddings,
        trainer.ignore_index,
        iterations=config.optimisation.iterations,
        every=config.log_every,
        tensorboard=f"{store.location(ref)}/{_TENSORBOARD}" if writes_events else None,
        silent=not is_first,
    )


def _make_batches(
    config: Config,
    shards: ShardSamples,
    weights: npt.NDArray[np.float32] | None,
    processes: Processes,
    *,
    on_gpu: bool,
) -> MakeBatches:
    from tasks.training.samples import TrainingSamples, collate

    recipe = config.optimisation
    length = recipe.iterations * recipe.batch_size
    samples = TrainingSamples(shards, config.samples, config.seed, length, weights)
    return lambda first_iteration: batches_from(
        samples,
        collate,
        first_iteration=first_iteration,
        iterations=recipe.iterations,
        batch_size=recipe.batch_size,
        processes=processes,
        workers=config.workers,
        pin_memory=on_gpu,
    )


def _publish(
    config: Config,
    inputs: Inputs,
    store: ArtifactStore,
    trainer: Trainer,
    training_log: TrainingLog,
    texts: np.ndarray,
    categories: Sequence[str],
    prompts: Sequence[Sequence[str]],
    quality: LabelQuality | None,
) -> Artifact:
    from safetensors.torch import save

    card = _card(config, inputs, store, trainer.network.architecture, categories, prompts)
    weights = {name: value.cpu().contiguous() for name, value in trainer.trained_weights().items()}
    with store.attempt(locate(config, inputs, store)) as attempt:
        with attempt.create(MODEL) as file:
            file.write(save(weights))
        with attempt.create(TEXT_EMBEDDINGS) as file:
            write_embeddings(texts, file)
        with attempt.create(TRAINING_TABLE) as file:
            file.write(training_log.csv())
        if training_log.preview is not None:
            with attempt.create(TRAINING_PREVIEW) as file:
                file.write(draw_preview(training_log.preview, categories))
        attempt.create_json(MODEL_CARD, card)
        return store.publish(
            attempt,
            _recipe(config, inputs),
            counts={
                "iterations": config.optimisation.iterations,
                "samples": config.optimisation.iterations * config.optimisation.batch_size,
                "categories": len(categories),
            },
            notes={
                "clip": config.clip.weights.label,
                "untrained": card["untrained"],
                "last": training_log.last_row(),
                **({"quality": quality.facts} if quality else {}),
                **training_log.speed,
            },
        )


def _card(
    config: Config,
    inputs: Inputs,
    store: ArtifactStore,
    architecture: str,
    categories: Sequence[str],
    prompts: Sequence[Sequence[str]],
) -> dict[str, Any]:
    """The model's description: what is needed to load it, and how it was made."""
    untrained_labels = store.get(inputs.dataset).notes.get("untrained", False)
    return {
        "architecture": architecture,
        "num_queries": config.num_queries,
        "num_decoder_layers": config.num_decoder_layers,
        "num_heads": config.num_heads,
        "stop_gradient": config.stop_gradient,
        "clip": config.clip.weights.label,
        "clip_digest": config.clip.weights.digest,
        "categories": list(categories),
        "prompts": [list(several) for several in prompts],
        "config": config.deciding,
        "dataset": inputs.dataset.key,
        "untrained": config.clip.weights.untrained or untrained_labels,
    }
