"""Segmenters, which predict labels and instances: ZUTIS, and the baseline MaskCLIP.

    from tasks.prediction.segmenter import zutis_segmenter
    segmenter = zutis_segmenter("coco_vit_b_16", ["zebra", "red kite"])
    result = segmenter.segment(pixels)    # result.labels, result.instances

Categories may be any names, those of training or not; CLIP's text tower embeds them when the
segmenter is made. ZUTIS uses bare names as prompts, like the reference (`networks/zutis.py`),
unless a vocabulary has prompts or synonyms, which then apply from training on; MaskCLIP uses many
prompt templates. Row 0 of the text embeddings is always the word "background", which is the first
category in each of the reference's configurations.

Dimensions:
    h, w  rows, columns of an image
    H, W  rows, columns of the network's input
    r, c  rows, columns of tokens
    k     categories, without the background
    d     width of the joint embedding
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from storage.errors.exceptions import ConfigError, VocabularyError, WeightsError
from storage.errors.numbers import check_numbers
from storage.vocabularies.prompt_templates import TEMPLATES
from storage.vocabularies.vocabulary import Category
from storage.weights.registry import HF_HUB, LOCAL_DIR, parse_clip
from tasks.categories.category_texts import as_categories, embed_categories, with_learned_prompts
from tasks.prediction.checkpoint import ZutisCheckpoint, load_network, open_checkpoint
from tasks.prediction.dense_segmenter import IMAGE_SIZE, DenseSegmenter, Segmentation, Segmenter
from tasks.prediction.label_regions import label_probabilities, regions_as_instances
from tasks.stage.models import ModelConfig, load_clip_model, require_patch_tokens, resolve_clip

if TYPE_CHECKING:
    from torch import Tensor

    from zutis_model.clip.towers import Clip
    from zutis_model.zutis.network import Zutis

__all__ = [
    "InstanceSettings",
    "MaskClipSegmenter",
    "Segmentation",
    "Segmenter",
    "ZutisSegmenter",
    "maskclip_segmenter",
    "zutis_segmenter",
]


@dataclass(frozen=True, kw_only=True)
class InstanceSettings:
    """Settings of instances; see `zutis_model.zutis.instance_prediction.predict_instances`.

    Attributes:
        threshold: 0..1; pixels of a proposal above it are the mask.
        temperature: above 0, of the cosine in the score.
        suppression: hard, linear, gaussian or none, of overlapping masks of one category.
        suppression_threshold: IoU in 0..1, of hard and linear suppression.
        sigma: above 0, of gaussian suppression.
        score_threshold: at least 0; instances below it after suppression are dropped.
        min_score: 0..1; instances below it are left out. Use 0 for scores such as AP.
    """

    threshold: float = 0.5
    temperature: float = 5.0
    suppression: Literal["hard", "linear", "gaussian", "none"] = "hard"
    suppression_threshold: float = 0.3
    sigma: float = 0.5
    score_threshold: float = 0.001
    min_score: float = 0.0

    def __post_init__(self) -> None:
        check_numbers(self)
        for name in ("threshold", "suppression_threshold", "min_score"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}: choose 0 to 1.")
        for name in ("temperature", "sigma"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}: choose a number above 0.")
        if not self.score_threshold >= 0:
            raise ConfigError(f"score_threshold is {self.score_threshold}: choose at least 0.")
        if self.suppression not in ("hard", "linear", "gaussian", "none"):
            raise ConfigError(
                f"suppression is {self.suppression!r}: choose hard, linear, gaussian or none."
            )


class ZutisSegmenter(DenseSegmenter):
    """ZUTIS with text embeddings; `zutis_segmenter` makes one from a checkpoint.

    Args:
        network: in eval mode.
        text_embeddings: float32 [k + 1, d], unit rows, the background first.
        categories: k names.
        settings: of the instances.
        label, untrained, image_size: see `DenseSegmenter` and `zutis_segmenter`.
    """

    def __init__(
        self,
        network: Zutis,
        text_embeddings: Tensor,
        categories: tuple[str, ...],
        *,
        label: str = "ZUTIS",
        untrained: bool = False,
        image_size: int = IMAGE_SIZE,
        settings: InstanceSettings | None = None,
    ) -> None:
        super().__init__(label, categories, untrained=untrained, image_size=image_size)
        self._network = network
        self._text_embeddings = text_embeddings.to(network.device)
        self._settings = settings or InstanceSettings()

    def _segment_images(self, images: Tensor, sizes: list[tuple[int, int]]) -> list[Segmentation]:
        from zutis_model.layers.normalisation import normalise

        output = self._network(normalise(images.to(self._network.device)))
        # Keep only the last layer, and free the rest of the output.
        proposals, tokens = output.mask_proposals[:, -1], output.patch_tokens
        del output
        return [
            self._segmentation(proposals[i : i + 1], tokens[i : i + 1], size)
            for i, size in enumerate(sizes)
        ]

    def _segmentation(
        self, proposals: Tensor, tokens: Tensor, size: tuple[int, int]
    ) -> Segmentation:
        from zutis_model.zutis.instance_prediction import predict_instances
        from zutis_model.zutis.semantic_prediction import semantic_labels

        chosen = self._settings
        (instances,) = predict_instances(
            proposals,
            tokens,
            self._text_embeddings,
            size=size,
            threshold=chosen.threshold,
            temperature=chosen.temperature,
            suppression=None if chosen.suppression == "none" else chosen.suppression,
            suppression_threshold=chosen.suppression_threshold,
            sigma=chosen.sigma,
            score_threshold=chosen.score_threshold,
        )
        # After the instances, which temporarily need memory for a mask or two.
        (labels,) = semantic_labels(tokens, self._text_embeddings, size, dtype=self._label_type())
        return Segmentation(
            labels=labels.cpu().numpy(), instances=self._at_least(chosen.min_score, instances)
        )


class MaskClipSegmenter(DenseSegmenter):
    """Dense CLIP without training; `maskclip_segmenter` makes one.

    Args:
        clip: whose patch tokens are compared with texts.
        text_embeddings: float32 [k + 1, d], unit rows, the background first.
        categories: k names.
        label, untrained, image_size: see `DenseSegmenter` and `zutis_segmenter`.
        min_score: 0..1; instances below it are left out.
    """

    def __init__(
        self,
        clip: Clip,
        text_embeddings: Tensor,
        categories: tuple[str, ...],
        *,
        label: str = "MaskCLIP",
        untrained: bool = False,
        image_size: int = IMAGE_SIZE,
        min_score: float = 0.0,
    ) -> None:
        super().__init__(label, categories, untrained=untrained, image_size=image_size)
        self._clip = clip
        self._text_embeddings = text_embeddings.to(clip.device)
        self._min_score = min_score

    def _segment_images(self, images: Tensor, sizes: list[tuple[int, int]]) -> list[Segmentation]:
        from zutis_model.baselines.maskclip import maskclip_tokens

        tokens = maskclip_tokens(self._clip, self._clip.normalise(images))
        return [self._segmentation(tokens[i : i + 1], size) for i, size in enumerate(sizes)]

    def _segmentation(self, tokens: Tensor, size: tuple[int, int]) -> Segmentation:
        from zutis_model.zutis.semantic_prediction import semantic_labels

        (labels,) = semantic_labels(tokens, self._text_embeddings, size, dtype=self._label_type())
        certainty = label_probabilities(
            tokens,
            self._text_embeddings,
            size,
            scale=self._clip.logit_scale,
            bias=self._clip.logit_bias,
        )
        instances = regions_as_instances(labels.cpu().numpy(), certainty.cpu().numpy())
        return Segmentation(
            labels=labels.cpu().numpy(), instances=self._at_least(self._min_score, instances)
        )


def zutis_segmenter(
    checkpoint: str | Path | ZutisCheckpoint,
    categories: Sequence[str | Category] | None = None,
    *,
    clip: str = "",
    device: str = "cpu",
    precision: str = "float32",
    image_size: int = IMAGE_SIZE,
    settings: InstanceSettings | None = None,
) -> ZutisSegmenter:
    """ZUTIS from a checkpoint, for any categories.

    Args:
        checkpoint: see `tasks.prediction.checkpoint.open_checkpoint`.
        categories: names, or categories of a vocabulary with prompts and synonyms of their own;
            without the background. None: those of training, with their text embeddings, so that
            no CLIP is needed.
        clip: ARCHITECTURE:WEIGHTS of the text tower. Empty: the one that the checkpoint was
            trained with, else OpenAI's of its architecture, as published checkpoints were.
        device: `cpu`, `cuda` or `cuda:N`.
        precision: `float32` or `bfloat16` (autocast).
        image_size: limit of the longer side of the network's input, pixels; 0 for none.
        settings: of the instances.

    Raises:
        WeightsError: the checkpoint or the CLIP is missing or damaged, or they don't belong
            together; the text says why.
        VocabularyError: the categories are unusable, or none are given and the checkpoint has
            none.
        ConfigError: a setting is invalid.
    """
    if not isinstance(checkpoint, ZutisCheckpoint):
        checkpoint = open_checkpoint(checkpoint)
    names, embeddings = _texts(checkpoint, categories, clip, device)
    network = load_network(checkpoint, device=device, precision=precision)
    _check_width(checkpoint, embeddings, network.encoder.output_dim)
    return ZutisSegmenter(
        network,
        embeddings,
        names,
        label=checkpoint.label,
        untrained=checkpoint.untrained,
        image_size=image_size,
        settings=settings,
    )


def maskclip_segmenter(
    clip: ModelConfig,
    categories: Sequence[str | Category],
    *,
    templates: Sequence[str] = TEMPLATES,
    image_size: int = IMAGE_SIZE,
    min_score: float = 0.0,
) -> MaskClipSegmenter:
    """MaskCLIP, the baseline that needs no training.

    Instances are the 8-connected regions of each category's labels; a region's score is the mean
    probability of its category.

    Args:
        clip: a CLIP whose image tower has patch tokens.
        categories: as for `zutis_segmenter`.
        templates: prompt templates; the default is MaskCLIP's own 85.
        image_size: as for `zutis_segmenter`.
        min_score: 0..1; instances below it are left out.

    Raises:
        WeightsError, VocabularyError, ConfigError: as `zutis_segmenter`.
    """
    chosen = as_categories(categories)
    require_patch_tokens(clip, "MaskCLIP")
    model = load_clip_model(clip)
    return MaskClipSegmenter(
        model,
        embed_categories(model, chosen, templates),
        tuple(category.name for category in chosen),
        label=f"MaskCLIP ({clip.weights.label})",
        untrained=clip.weights.untrained,
        image_size=image_size,
        min_score=min_score,
    )


def _texts(
    checkpoint: ZutisCheckpoint,
    categories: Sequence[str | Category] | None,
    clip: str,
    device: str,
) -> tuple[tuple[str, ...], Tensor]:
    """The category names and their text embeddings."""
    import torch

    if categories is None and not checkpoint.categories:
        raise VocabularyError(
            f"The checkpoint {checkpoint.label} doesn't say which categories it was trained for:"
            " give categories or a vocabulary."
        )
    if categories is None and checkpoint.text_embeddings is not None and not clip:
        return checkpoint.categories, torch.from_numpy(checkpoint.text_embeddings)
    chosen = with_learned_prompts(
        as_categories(checkpoint.categories if categories is None else categories),
        checkpoint.vocabulary,
    )
    model = load_clip_model(_text_tower(checkpoint, clip, device))
    return tuple(category.name for category in chosen), embed_categories(model, chosen)


def _text_tower(checkpoint: ZutisCheckpoint, clip: str, device: str) -> ModelConfig:
    """The CLIP whose text tower belongs to the checkpoint.

    Texts are embedded in float32 for any precision of the network: they are few, and compared with
    all pixels.
    """
    spec = clip or checkpoint.default_clip
    if not spec:
        raise WeightsError(
            f"The checkpoint {checkpoint.label} doesn't say which CLIP it was trained from, and"
            f" OpenAI has published none of {checkpoint.architecture}: name it, as"
            " ARCHITECTURE:WEIGHTS."
        )
    if (architecture := parse_clip(spec).architecture) not in (LOCAL_DIR, HF_HUB):
        _check_architecture(checkpoint, spec, architecture)
    model = resolve_clip(spec, device=device)
    _check_architecture(checkpoint, spec, model.architecture)
    weights = model.weights
    if checkpoint.clip_digest and weights.digest != checkpoint.clip_digest:
        raise WeightsError(
            f"The checkpoint {checkpoint.label} was trained from {checkpoint.clip}"
            f" ({checkpoint.clip_digest[:16]}), not from {weights.label} ({weights.digest[:16]}):"
            " give that CLIP."
        )
    return model


def _check_architecture(checkpoint: ZutisCheckpoint, clip: str, architecture: str) -> None:
    if architecture != checkpoint.architecture:
        raise WeightsError(
            f"The checkpoint {checkpoint.label} is of {checkpoint.architecture} and the CLIP {clip}"
            f" of {architecture}: give a CLIP of {checkpoint.architecture}."
        )


def _check_width(checkpoint: ZutisCheckpoint, embeddings: Tensor, width: int) -> None:
    if embeddings.shape[1] != width:
        raise WeightsError(
            f"The checkpoint {checkpoint.label} needs text embeddings of {width} numbers, and these"
            f" have {embeddings.shape[1]}: they are from another CLIP."
        )
