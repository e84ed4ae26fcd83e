"""Recipes: all settings of the published ZUTIS models, by name.

They are those of github.com/NoelShin/zutis, `configs/*.yaml`, and of what its code has fixed:
`utils/utils.py` (optimiser, schedule), `datasets/index_dataset.py` (retrieval, masks, samples),
`datasets/imagenet_s.py` (largest size). All values are written out, also where they are defaults: a
default may change, what was published may not. What is given beside a recipe wins over it.

Vocabulary, corpus and data set are not part of a recipe; docs/reproduction.md has whole commands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, get_args

from storage.errors.exceptions import ConfigError
from storage.errors.sentences import nearest

RecipeName = Literal[
    "",
    "zutis-coco",
    "zutis-coco-vit-b-32",
    "zutis-coca",
    "zutis-imagenet-s919",
    "zutis-imagenet-s919-vit-b-32",
]
"""A published configuration; empty: none."""

RECIPE_NAMES: Final[tuple[str, ...]] = tuple(name for name in get_args(RecipeName) if name)

Part = Literal["build", "training", "evaluation"]
Values = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class PublishedRecipe:
    """Settings by name.

    Attributes:
        build: of `BuildSettings`.
        training: of `TrainingSettings`.
        evaluation: of `EvaluationSettings`.
    """

    build: Values
    training: Values
    evaluation: Values


# The authors train and evaluate without autocast; bfloat16 would be the default on a GPU.
_BUILD: Final[Values] = MappingProxyType(
    {
        "per_category": 500,
        "clip": "ViT-L-14-336-quickgelu:openai",
        "selfmask": "nq20",
        "mask_size": 512,
        "refine_input": "reference",
        "overlap": "last",
        "min_score": 0.0,
        "min_probability": 0.0,
        "min_margin": -1.0,
        "thin": "keep",
        "index": "exact",
        "index_search": "",
        "precision": "float32",
    }
)
_TRAINING: Final[Values] = MappingProxyType(
    {
        "clip": "ViT-B-16-quickgelu:openai",
        "precision": "float32",
        "iterations": 20_000,
        "batch_size": 8,
        "learning_rate": 5e-5,
        "encoder_factor": 0.1,
        "weight_decay": 0.05,
        "power": 0.9,
        "min_learning_rate": 1e-6,
        "max_gradient_norm": None,
        "muon_factor": None,
        "ema_decay": None,
        "ce_weight": 1.0,
        "mask_weight": 1.0,
        "dice_weight": 1.0,
        "bce_weight": 1.0,
        "ce_scale": 1.0,
        "crop": 384,
        "min_objects": 1,
        "max_objects": 10,
        "same_category_probability": 0.5,
        "min_scale": 0.1,
        "max_scale": 1.0,
        "flip": 0.5,
        "jitter": (0.8, 0.8, 0.8, 0.2),
        "jitter_probability": 0.8,
        "greyscale": 0.2,
        "blur": 0.5,
        "min_sigma": 0.1,
        "max_sigma": 2.0,
        "num_queries": 100,
        "num_decoder_layers": 6,
        "num_heads": 8,
        "stop_gradient": True,
        "seed": 0,
    }
)
_EVALUATION: Final[Values] = MappingProxyType(
    {
        "precision": "float32",
        "image_size": 0,
        "threshold": 0.5,
        "temperature": 5.0,
        "suppression": "hard",
        "suppression_threshold": 0.3,
        "sigma": 0.5,
        "score_threshold": 0.001,
        "min_score": 0.0,
    }
)
_SMALLER_CLIP: Final[Values] = MappingProxyType({"clip": "ViT-B-32-quickgelu:openai"})
# `n_iters: 80000` in both configs/imagenet_s919_*.yaml; an image's longer side is 1024 at most.
_IMAGENET_S: Final[Values] = MappingProxyType({"iterations": 80_000})
_IMAGENET_S_SIZE: Final[Values] = MappingProxyType({"image_size": 1024})


def _recipe(*, training: Values = {}, evaluation: Values = {}) -> PublishedRecipe:  # noqa: B006
    return PublishedRecipe(
        build=_BUILD, training={**_TRAINING, **training}, evaluation={**_EVALUATION, **evaluation}
    )


_RECIPES: Final[Mapping[str, PublishedRecipe]] = {
    "zutis-coco": _recipe(),
    "zutis-coco-vit-b-32": _recipe(training=_SMALLER_CLIP),
    "zutis-coca": _recipe(),
    "zutis-imagenet-s919": _recipe(training=_IMAGENET_S, evaluation=_IMAGENET_S_SIZE),
    "zutis-imagenet-s919-vit-b-32": _recipe(
        training={**_IMAGENET_S, **_SMALLER_CLIP}, evaluation=_IMAGENET_S_SIZE
    ),
}


def published_recipe(name: str) -> PublishedRecipe:
    """The recipe of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in _RECIPES:
        raise ConfigError(
            f"There is no recipe {name!r}: choose one of {', '.join(RECIPE_NAMES)}"
            f"{nearest(name, RECIPE_NAMES) or '.'}"
        )
    return _RECIPES[name]


def with_recipe(part: Part, given: Values) -> dict[str, Any]:
    """The settings that are given, over those of the recipe that is named among them.

    A name that there is not is left for the settings' own check.
    """
    name = given.get("recipe", "")
    recipe = _RECIPES.get(name) if isinstance(name, str) else None
    return {**(getattr(recipe, part) if recipe else {}), **given}


def departures(part: Part, recipe: str, chosen: Values) -> dict[str, Any]:
    """What is chosen otherwise than the recipe has it; nothing without a recipe."""
    if not recipe:
        return {}
    published = getattr(published_recipe(recipe), part)
    return {name: chosen[name] for name, value in published.items() if chosen[name] != value}
