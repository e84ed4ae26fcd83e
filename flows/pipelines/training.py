"""The wiring of training and evaluation: which stage reads which artifacts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.execution.executors import Executor
from flows.settings.build import clip_model
from flows.settings.evaluation import EvaluationSettings, asked_categories, opened_set
from flows.upkeep.find_artifacts import LATEST, find_by_key, is_key, newest_first
from storage.artifacts.store import Artifact, ArtifactStore
from storage.errors.exceptions import ArtifactError, ConfigError
from storage.evaluation_sets.opening import EvaluationSet
from storage.files.filesystems import is_local
from storage.files.user_files import is_file, is_folder, user_path
from storage.vocabularies.vocabulary import Category
from storage.weights.files import sha256_of
from storage.weights.registry import ZUTIS, parse_clip, seed_of
from storage.weights.resolving import check
from tasks.categories.category_texts import with_learned_prompts
from tasks.evaluation import evaluate
from tasks.merging.merge_datasets import MERGED
from tasks.packing.assemble_dataset import NAME as DATASET
from tasks.prediction.checkpoint import MODEL, learned_categories, open_checkpoint
from tasks.stage.models import ModelConfig
from tasks.training import train


@dataclass(frozen=True)
class TrainedModel:
    """A ZUTIS network to evaluate.

    Attributes:
        clip: ARCHITECTURE:WEIGHTS of the CLIP that it was trained from; empty if unknown.
        label: name for display.
        training: the training that published it; None for a checkpoint from elsewhere.
        checkpoint: what `tasks.prediction.checkpoint.open_checkpoint` takes; empty with a training.
        digest: of the checkpoint's weights.
        left_out: categories of the data set that were left out of training.
        learned: the categories of training, with their prompts.
    """

    clip: str
    label: str
    training: Artifact | None = None
    checkpoint: str = ""
    digest: str = ""
    left_out: tuple[str, ...] = ()
    learned: tuple[Category, ...] = ()


@dataclass(frozen=True)
class Evaluated:
    """The evaluation of a model, and that of MaskCLIP if it was asked for."""

    model: Artifact
    baseline: Artifact | None

    @property
    def all(self) -> list[Artifact]:
        """All evaluations, the baseline's first."""
        return [artifact for artifact in (self.baseline, self.model) if artifact is not None]

    def metrics(self) -> list[dict[str, Any]]:
        """The content of each `metrics.json`, in the order of `all`."""
        return [artifact.read_json(evaluate.METRICS) for artifact in self.all]


def find_dataset(store: ArtifactStore, key: str) -> Artifact:
    """The data set to train on: by the beginning of its key, or the latest build's, and not one
    of a second round, which belongs to a training, or one that was merged.

    Raises:
        ArtifactError: there is none.
    """
    if key:
        return find_by_key(store, key, [DATASET])
    for found in newest_first(store, DATASET):
        if not {"labelled_by", MERGED} & found.manifest["inputs"].keys():
            return found
    raise ArtifactError(
        f"There is no data set in {store.root}: run `zutis build` first, or name its --store."
    )


def train_model(config: train.Config, dataset: Artifact, executor: Executor) -> Artifact:
    """Train, or find the training."""
    inputs = train.Inputs(dataset.ref)
    [artifact] = executor.many(train.NAME, config, [inputs], [config.optimisation.iterations])
    return artifact


def find_model(store: ArtifactStore, name: str) -> TrainedModel:
    """The model to evaluate.

    Args:
        store: where trainings are.
        name: the beginning of a training's key; the name, file or folder of a checkpoint; or
            nothing for the latest training that left no category out.

    Raises:
        ArtifactError: there is no training, or only some that left categories out.
        WeightsError: there is no such checkpoint.
    """
    if not name:
        return trained_model(_latest_training(store))
    if is_key(name) and not Path(name).exists():
        return trained_model(find_by_key(store, name, [train.NAME]))
    return _checkpoint(name)


def checkpoint_place(name: str | Path, store: str) -> str:
    """What `open_checkpoint` takes: the folder of a training for its key, or for `latest`.

    Raises:
        ArtifactError: there is no such training.
        ConfigError: it is not on a local disk.
    """
    text = str(name)
    is_place = is_file(user_path(text)) or is_folder(user_path(text))
    if is_place or not (text == LATEST or is_key(text)):
        return text
    training = find_model(ArtifactStore(store), "" if text == LATEST else text).training
    assert training is not None, "what is no checkpoint was found by its key"
    if not is_local(training.location):
        raise ConfigError(
            f"The model {training.location} is not on a local disk: copy its folder to one and name"
            " that."
        )
    return training.location


def _latest_training(store: ArtifactStore) -> Artifact:
    """The latest model that was trained on all of its data set's categories: a training that left
    some out is an experiment."""
    trainings = newest_first(store, train.NAME)
    for training in trainings:
        if not training.read_json(train.MODEL_CARD)["config"]["leave_out"]:
            return training
    if trainings:
        keys = ", ".join(training.key[:12] for training in trainings[:5])
        raise ArtifactError(
            f"All trained models in {store.root} left categories out ({keys}): name one of them "
            "with --checkpoint, or run `zutis train` without leave_out."
        )
    raise ArtifactError(
        f"There is no trained model in {store.root}: run `zutis train` first, or name a "
        "--checkpoint."
    )


def trained_model(training: Artifact) -> TrainedModel:
    """The model that a training published."""
    card: dict[str, Any] = training.read_json(train.MODEL_CARD)
    return TrainedModel(
        clip=card["clip"].removesuffix(" (untrained)"),
        label=f"ZUTIS {training.key[:12]}",
        training=training,
        left_out=tuple(card["config"]["leave_out"]),
        learned=learned_categories(card),
    )


def evaluate_model(
    settings: EvaluationSettings, model: TrainedModel, executor: Executor
) -> Evaluated:
    """Evaluate a model, and the baseline beside it.

    Raises:
        ZutisError: one sentence, for the user.
        NotCached: from an executor that runs nothing.
    """
    used = opened_set(settings)
    clip = _clip(settings, model)
    configs = [_model_config(settings, used, model, clip)]
    if settings.baseline:
        configs.append(_baseline_config(settings, used, model, clip))
    images = min(settings.limit or len(used.images), len(used.images))
    inputs = [
        evaluate.Inputs(model.training.ref if model.training and config.method == "zutis" else None)
        for config in configs
    ]
    made = [
        executor.many(evaluate.NAME, config, [one], [images])[0]
        for config, one in zip(configs, inputs, strict=True)
    ]
    return Evaluated(made[0], made[1] if settings.baseline else None)


def _checkpoint(name: str) -> TrainedModel:
    checkpoint = open_checkpoint(name)
    return TrainedModel(
        clip=checkpoint.default_clip,
        label=checkpoint.label,
        checkpoint=name,
        digest=_digest(name),
        learned=checkpoint.vocabulary,
    )


def _digest(name: str) -> str:
    """Digest of the weights of a checkpoint that `open_checkpoint` has found."""
    if ":random" in name:
        seed = seed_of(parse_clip(name).weights)
        return f"random:{seed}"
    if name in ZUTIS:
        [found] = check(name)
        return sha256_of(found.path)
    path = user_path(name)
    return sha256_of(path / MODEL if is_folder(path) else path)


def _clip(settings: EvaluationSettings, model: TrainedModel) -> ModelConfig:
    spec = settings.clip or model.clip
    if not spec:
        raise ConfigError(
            f"Nothing says which CLIP {model.label} speaks with: name it, as "
            "clip=ARCHITECTURE:WEIGHTS."
        )
    return clip_model(spec, settings.device, settings.precision)


def _model_config(
    settings: EvaluationSettings, used: EvaluationSet, model: TrainedModel, clip: ModelConfig
) -> evaluate.Config:
    return evaluate.Config(
        method="zutis",
        clip=clip,
        checkpoint=model.checkpoint,
        checkpoint_digest=model.digest,
        checkpoint_label=model.label,
        **_common(settings, used, model),
    )


def _baseline_config(
    settings: EvaluationSettings, used: EvaluationSet, model: TrainedModel, clip: ModelConfig
) -> evaluate.Config:
    if settings.maskclip:
        clip = clip_model(settings.maskclip, settings.device, settings.precision)
    return evaluate.Config(method="maskclip", clip=clip, **_common(settings, used, model))


def _common(
    settings: EvaluationSettings, used: EvaluationSet, model: TrainedModel
) -> dict[str, Any]:
    """The settings that the evaluations of the model and the baseline share."""
    return {
        "evaluation_set": settings.on,
        "evaluation_digest": used.digest(),
        "data_root": settings.data,
        "skip_bad": settings.skip_bad,
        "categories": _categories(settings, used, model),
        "collapse_to": settings.collapse_to,
        "seen_categories": _seen(settings, used, model),
        "image_size": settings.image_size,
        "upright": settings.upright,
        "instances": settings.instances,
        "limit": settings.limit,
    }


def _categories(
    settings: EvaluationSettings, used: EvaluationSet, model: TrainedModel
) -> tuple[Category, ...]:
    """The evaluated categories with their prompts from training; empty for the set's bare names."""
    if settings.vocabulary:
        return with_learned_prompts(asked_categories(settings, used), model.learned)
    bare = tuple(Category(name=name) for name in used.categories)
    asked = with_learned_prompts(bare, model.learned)
    return () if asked == bare else asked


def _seen(
    settings: EvaluationSettings, used: EvaluationSet, model: TrainedModel
) -> tuple[str, ...]:
    """Categories seen in training; empty if there are no unseen ones to score separately."""
    if settings.seen is not None:
        return settings.seen
    if settings.collapse_to or not set(model.left_out) & set(used.categories):
        return ()
    return tuple(name for name in used.categories if name not in model.left_out)
