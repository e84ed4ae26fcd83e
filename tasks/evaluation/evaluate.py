"""The stage `evaluate`: a model's labels and instances compared with a data set's annotations.

Names and prompts are published with the scores, which depend on them. Modes of the ZUTIS paper are
settings: zero-shot transfer is a model trained on another corpus, unseen categories are those that
`seen_categories` leaves out, and high-level names (CUB) are fine-grained ones with `collapse_to`.
MaskCLIP is the baseline that needs no training.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from storage.artifacts.fingerprints import Recipe, digest, unless_default
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.errors.exceptions import ConfigError, CorpusError
from storage.evaluation_sets.opening import EvaluationImage, EvaluationSet, open_evaluation_set
from storage.vocabularies.prompt_templates import TEMPLATES
from storage.vocabularies.vocabulary import BACKGROUND, Category, category_prompts
from tasks.categories.category_texts import BARE_NAME, as_categories
from tasks.categories.class_matching import check_positions
from tasks.evaluation.caveats import ScoredImages, absent_categories, frame_caveats, leakage
from tasks.evaluation.images import load_image, read_ahead
from tasks.evaluation.report import (
    SheetRow,
    choose_images,
    draw_sheet,
    per_class_csv,
    predictions_json,
)
from tasks.evaluation.scores import Scheme, Scores
from tasks.prediction.dense_segmenter import DenseSegmenter
from tasks.prediction.segmenter import (
    InstanceSettings,
    Segmenter,
    maskclip_segmenter,
    zutis_segmenter,
)
from tasks.prediction.stored_model import model_folder
from tasks.stage.contract import Progress, waiting
from tasks.stage.models import ModelConfig, require_patch_tokens

NAME = "evaluate"
VERSION = 3
_NAMED = 5  # files in a sentence

METRICS = "metrics.json"
PER_CLASS = "per_class.csv"
INSTANCES = "instances.json"
SHEET = "sheet.png"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of an evaluation.

    Attributes:
        method: `zutis`, or `maskclip` for the baseline.
        clip: the CLIP whose text tower embeds the prompts, with device and precision of the
            networks; for `maskclip` it also encodes the images.
        evaluation_set: what `storage.evaluation_sets.opening.open_evaluation_set` takes.
        evaluation_digest: of that set, when the evaluation was planned.
        data_root: the folder of all data, for published sets; empty for ZUTIS_DATA. Not part of
            the key.
        skip_bad: leave faulty annotations out. Not part of the key: the set's digest covers what
            was left out.
        checkpoint: for `zutis` without a training artifact: what
            `tasks.prediction.checkpoint.open_checkpoint` takes. Not part of the key.
        checkpoint_digest: of its weights: sha256, or `random:SEED`.
        checkpoint_label: its name for people.
        categories: the model's categories, one for each of the set's and in the same order, with
            name, synonyms and prompts as in a vocabulary. Empty for the set's names.
        collapse_to: one name as which all categories of ground truth and predictions are scored,
            so that `categories` may differ from the set's; empty to keep them apart. Objects are
            suppressed within their finer category only.
        seen_categories: the set's categories that occurred in training: scores are also given for
            these and for the others separately. Empty for no such scores.
        image_size: longer side in pixels that the network sees at most; 0 for no limit.
        instances: how instances are chosen. `maskclip` uses only `min_score`.
        upright: images were annotated turned upright, and not as stored, which is COCO's
            convention; it decides where sizes don't.
        limit: the first images of the set alone, for trials; 0 for all.
    """

    method: Literal["zutis", "maskclip"]
    clip: ModelConfig
    evaluation_set: str
    evaluation_digest: str
    data_root: str = ""
    skip_bad: bool = False
    checkpoint: str = ""
    checkpoint_digest: str = ""
    checkpoint_label: str = ""
    categories: tuple[Category, ...] = ()
    collapse_to: str = ""
    seen_categories: tuple[str, ...] = ()
    image_size: int = 1024
    instances: InstanceSettings = field(default_factory=InstanceSettings)
    upright: bool = False
    limit: int = 0

    def __post_init__(self) -> None:
        if self.method not in ("zutis", "maskclip"):
            raise ConfigError(f"method is {self.method!r}: choose zutis or maskclip.")
        if self.checkpoint and not self.checkpoint_digest:
            raise ConfigError(f"checkpoint is {self.checkpoint!r} without a checkpoint_digest.")
        if self.method == "maskclip" and self.checkpoint:
            raise ConfigError(
                f"checkpoint is {self.checkpoint!r}, but maskclip uses none: leave it out, or "
                "choose the method zutis."
            )
        if self.collapse_to and self.seen_categories:
            raise ConfigError(
                f"collapse_to is {self.collapse_to!r} and seen_categories is given: where all "
                "categories are scored as one, none is unseen; leave out either."
            )
        if self.image_size and self.image_size < 32:
            raise ConfigError(f"image_size is {self.image_size}: use at least 32, or 0.")
        if self.limit < 0:
            raise ConfigError(f"limit is {self.limit}: use at least 1, or 0 for all images.")
        if self.method == "maskclip":
            require_patch_tokens(self.clip, "MaskCLIP")

    @property
    def templates(self) -> tuple[str, ...]:
        """Prompt templates for categories without prompts of their own, as in the papers."""
        return tuple(TEMPLATES) if self.method == "maskclip" else BARE_NAME

    @property
    def instance_settings(self) -> dict[str, Any]:
        """The settings of `instances` that the method uses."""
        if self.method == "maskclip":
            return {"min_score": self.instances.min_score}
        return asdict(self.instances)


@dataclass(frozen=True)
class Inputs:
    """The training whose model is evaluated; None for a checkpoint, or for MaskCLIP."""

    training: ArtifactRef | None = None


def _recipe(config: Config, inputs: Inputs) -> Recipe:
    if config.method == "zutis" and bool(config.checkpoint) == bool(inputs.training):
        raise ConfigError("The method zutis needs a training or a checkpoint, but not both.")
    if config.method == "maskclip" and inputs.training is not None:
        raise ConfigError("The method maskclip has no training: leave it out.")
    weights = {"clip": config.clip.weights.digest}
    if config.checkpoint_digest:
        weights["checkpoint"] = config.checkpoint_digest
    return Recipe(
        stage=NAME,
        version=VERSION,
        config={
            "method": config.method,
            **config.clip.identity,
            "evaluation_set": config.evaluation_digest,
            "words": digest([_words(config.categories), config.templates]),
            "collapse_to": config.collapse_to,
            "seen_categories": sorted(config.seen_categories),
            "image_size": config.image_size,
            "instances": config.instance_settings,
            "limit": config.limit,
            **unless_default(config, "upright"),
        },
        weights=weights,
        inputs={"training": inputs.training.key} if inputs.training else {},
    )


def _words(categories: Sequence[Category]) -> list[list[Any]]:
    return [[item.name, item.prompts, item.synonyms] for item in categories]


def locate(config: Config, inputs: Inputs, store: ArtifactStore) -> ArtifactRef:
    return ArtifactRef(NAME, _recipe(config, inputs).key())


def run(config: Config, inputs: Inputs, store: ArtifactStore, progress: Progress) -> Artifact:
    """Evaluate one model on one set.

    Raises:
        ConfigError: category names or seen categories don't fit the set, or the set has changed
            since the evaluation was planned.
        CorpusError: the set is incomplete, or annotations and images don't match.
        WeightsError: the model can't be loaded.

    Publishes `metrics.json` (all scores, names, prompts, settings, model), `per_class.csv`,
    `instances.json` (COCO results, if the set has instance truth; category and image ids are those
    of the set's own annotations), `sheet.png` (best, median and worst images).
    """
    used = _opened_set(config)
    categories = as_categories(config.categories or _own_categories(used))
    scheme = _scheme(config, used, categories)
    for note in used.notes:
        progress.warn(note)
    images = used.images[: config.limit or None]
    with contextlib.ExitStack() as stack:
        with waiting(progress, "loading the network"):
            segmenter = stack.enter_context(_segmenter(config, inputs, categories, store))
        scores, seen = _score(config, images, segmenter, scheme, progress)
        rows = _sheet_rows(config, images, seen.mean_ious, segmenter, scores)
        model = _description_of_model(config, inputs, segmenter)
    result = scores.result()
    caveats = _caveats(config, inputs, used, model, seen, result["classes"], store)
    for caveat in caveats:
        progress.warn(caveat)
    metrics = {
        "evaluation_set": _description_of_set(used, len(images), [*used.notes, *caveats]),
        "model": model,
        "names": [BACKGROUND, *(category.name for category in categories)],
        "prompts": _prompts(config, categories),
        "settings": _settings(config),
        **result,
    }
    sheet = draw_sheet(f"{model['label']} on {used.name}", rows, scheme.categories)
    predictions = _numbered(scores.predictions, config, used)
    return _publish(config, inputs, store, metrics, predictions, sheet)


def _caveats(
    config: Config,
    inputs: Inputs,
    used: EvaluationSet,
    model: dict[str, Any],
    seen: ScoredImages,
    classes: Sequence[dict[str, Any]],
    store: ArtifactStore,
) -> list[str]:
    """Caveats of the scores; absent categories only where all images are evaluated."""
    caveats = frame_caveats(seen, upright=config.upright)
    if not (config.limit or config.collapse_to):
        caveats += absent_categories(classes, used.name)
    if inputs.training or (config.checkpoint and not model["untrained"]):
        caveats += leakage(inputs.training, model["label"], seen, store)
    return caveats


def _numbered(
    predictions: Sequence[dict[str, Any]], config: Config, used: EvaluationSet
) -> Sequence[dict[str, Any]]:
    """Predictions with the set's own category ids, which match its annotation file."""
    if config.collapse_to:  # one category, which is not in the file
        return predictions
    return [row | {"category_id": used.own_id(row["category_id"])} for row in predictions]


def _publish(
    config: Config,
    inputs: Inputs,
    store: ArtifactStore,
    metrics: dict[str, Any],
    predictions: Sequence[dict[str, Any]],
    sheet: bytes,
) -> Artifact:
    # With one row for all categories, all their prompts would be in one cell.
    prompts = [] if config.collapse_to else metrics["prompts"]
    model, used = metrics["model"], metrics["evaluation_set"]
    with store.attempt(locate(config, inputs, store)) as attempt:
        attempt.create_json(METRICS, metrics)
        with attempt.create(PER_CLASS) as file:
            file.write(per_class_csv(metrics["classes"], prompts))
        if metrics["instance"] is not None:
            with attempt.create(INSTANCES) as file:
                file.write(predictions_json(predictions))
        with attempt.create(SHEET) as file:
            file.write(sheet)
        return store.publish(
            attempt, _recipe(config, inputs),
            counts={"images": used["images"], **_headline(metrics)},
            notes={"untrained": model["untrained"], "model": model["label"],
                   "evaluation_set": used["name"]},
        )  # fmt: skip


def _opened_set(config: Config) -> EvaluationSet:
    """Open the set and check that it is the planned one."""
    root = Path(config.data_root) if config.data_root else None
    used = open_evaluation_set(config.evaluation_set, root, skip_bad=config.skip_bad)
    if used.digest() != config.evaluation_digest:
        raise ConfigError(
            f"The data set {used.name} has changed since this evaluation was planned: run the "
            "same command again."
        )
    if not used.images:
        raise CorpusError(f"The data set {used.name} has no image: there is nothing to evaluate.")
    if len({image.image_id for image in used.images}) < len(used.images):
        raise CorpusError(
            f"Two images of the data set {used.name} have the same id: give each its own id."
        )
    return used


def _own_categories(used: EvaluationSet) -> list[Category]:
    """The set's own category names, of which some may differ only in case."""
    return [Category(name=" ".join(name.split())) for name in used.categories]


def _scheme(config: Config, used: EvaluationSet, categories: Sequence[Category]) -> Scheme:
    """The scoring scheme.

    Raises:
        ConfigError: category names or seen categories don't fit the set.
    """
    if not config.collapse_to:
        check_positions(used.categories, categories, used.name)
    unknown = [name for name in config.seen_categories if name not in used.categories]
    if unknown:
        raise ConfigError(
            f"seen_categories has {', '.join(unknown)}, which is no category of the data set "
            f"{used.name}: use its names."
        )
    return Scheme(
        categories=(config.collapse_to,) if config.collapse_to else used.categories,
        collapsed=bool(config.collapse_to),
        seen=config.seen_categories,
        ignore=used.ignore,
        imagenet_s=used.scoring == "imagenet-s",
    )


@contextlib.contextmanager
def _segmenter(
    config: Config, inputs: Inputs, categories: Sequence[Category], store: ArtifactStore
) -> Iterator[DenseSegmenter]:
    """The evaluated model."""
    if config.method == "maskclip":
        yield maskclip_segmenter(
            config.clip,
            categories,
            templates=config.templates,
            image_size=config.image_size,
            min_score=config.instances.min_score,
        )
        return
    with contextlib.ExitStack() as stack:
        checkpoint: str | Path = config.checkpoint
        if inputs.training is not None:
            checkpoint = stack.enter_context(model_folder(store.get(inputs.training)))
        yield zutis_segmenter(
            checkpoint,
            categories,
            clip=_clip_spec(config.clip),
            device=config.clip.device,
            precision=config.clip.precision,
            image_size=config.image_size,
            settings=config.instances,
        )


def _clip_spec(clip: ModelConfig) -> str:
    """ARCHITECTURE:WEIGHTS of resolved weights."""
    weights = clip.weights
    if weights.folder is not None:
        return weights.label
    return f"{clip.architecture}:{weights.path or f'random:{weights.seed}'}"


def _score(
    config: Config,
    images: Sequence[EvaluationImage],
    segmenter: Segmenter,
    scheme: Scheme,
    progress: Progress,
) -> tuple[Scores, ScoredImages]:
    """The scores over all images, and facts about each."""
    scores, seen = Scores(scheme), ScoredImages()
    for image in read_ahead(images, upright=config.upright):
        seen.mean_ious.append(scores.add(image, segmenter.segment(image.pixels)))
        seen.sha256s.append(image.sha256)
        if image.frame_chosen:
            seen.frame_chosen.append(image.source.name)
        progress.advance(1)
    return scores, seen


def _sheet_rows(
    config: Config,
    images: Sequence[EvaluationImage],
    image_scores: Sequence[float],
    segmenter: Segmenter,
    scores: Scores,
) -> list[SheetRow]:
    """The images of the sheet, segmented again: label maps of all would not fit into memory."""
    rows = []
    for chosen in choose_images(image_scores):
        image = load_image(images[chosen.index], upright=config.upright)
        truth, predicted = scores.label_maps(image, segmenter.segment(image.pixels))
        score = f"mean IoU {100 * image_scores[chosen.index]:.1f}"
        rows.append(
            SheetRow(
                title=f"{chosen.title}: {image.source.name}, {score}",
                pixels=image.pixels,
                truth=truth,
                predicted=predicted,
            )
        )
    return rows


def _prompts(config: Config, categories: Sequence[Category]) -> list[list[str]]:
    """The prompts of each category, the background first."""
    with_background = (Category(name=BACKGROUND), *categories)
    return [list(category_prompts(category, config.templates)) for category in with_background]


def _description_of_set(used: EvaluationSet, images: int, notes: Sequence[str]) -> dict[str, Any]:
    return {
        "name": used.name,
        "digest": used.digest(),
        "scoring": used.scoring,
        "categories": list(used.categories),
        # In the order of `categories`; the category_id of other files is a label, 1..k.
        **({"category_ids": list(used.category_ids)} if used.category_ids else {}),
        "images": images,
        "images_of_the_set": len(used.images),
        **({"skipped": list(used.skipped)} if used.skipped else {}),
        # Omitted where there are none, so that files without notes keep their bytes.
        **({"notes": list(notes)} if notes else {}),
    }


def _description_of_model(
    config: Config, inputs: Inputs, segmenter: DenseSegmenter
) -> dict[str, Any]:
    clip = config.clip.weights
    label = config.checkpoint_label or Path(config.checkpoint).name or str(inputs.training)
    return {
        "method": config.method,
        "label": f"MaskCLIP ({clip.label})" if config.method == "maskclip" else label,
        "checkpoint_digest": config.checkpoint_digest or None,
        "training": inputs.training.key if inputs.training else None,
        "architecture": config.clip.architecture,
        "clip": clip.label,
        "clip_digest": clip.digest,
        "untrained": segmenter.untrained or clip.untrained,
    }


def _settings(config: Config) -> dict[str, Any]:
    return {
        "image_size": config.image_size,
        "precision": config.clip.precision,
        "instances": config.instance_settings,
        "collapse_to": config.collapse_to or None,
        "seen_categories": list(config.seen_categories),
        "limit": config.limit or None,
        **unless_default(config, "upright"),
    }


def _headline(metrics: dict[str, Any]) -> dict[str, Any]:
    """The main scores, for the manifest's counts."""
    headline = {}
    if metrics["semantic"] is not None:
        headline["mean_iou"] = metrics["semantic"]["mean_iou_with_background"]
    if metrics["instance"] is not None:
        headline["ap"] = metrics["instance"]["by_category"]["ap"]
    return headline
