"""Features of image patches, for clustering: of CLIPs, of DINO's and DeiT's encoders, or colours.

Dimensions:
    h, w  rows, columns of an image
    p     pixels along a patch's side
    r, c  patch rows, columns
    d     channels of a feature
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from storage.errors.exceptions import WeightsError
from storage.files.user_files import user_path
from storage.weights.registry import seed_of
from storage.weights.state_dicts import load_state_dict
from tasks.stage.models import load_clip_model, require_patch_tokens, resolve_clip

if TYPE_CHECKING:
    from torch import Tensor

Pixels = NDArray[np.uint8]

COLOURS = "colours"

_LONGEST_SIDE = 128  # patches; clusters of longer rows would not be regions


@dataclass(frozen=True, eq=False)
class PatchFeatures:
    """A source of features.

    Attributes:
        label: for people.
        on_grid: pixels uint8 [h, w, 3], r and c to float32 [r, c, d].
    """

    label: str
    on_grid: Callable[[Pixels, int, int], NDArray[np.float32]]

    def __call__(self, pixels: Pixels, patches: int) -> NDArray[np.float32]:
        """An image's features on a grid of about `patches` patches.

        Args:
            pixels: uint8 [h, w, 3], RGB.
            patches: limit of r · c, reached as nearly as the image's shape allows.

        Returns:
            float32 [r, c, d]; the patches cover the image.
        """
        return self.on_grid(pixels, *grid_of(pixels.shape[0], pixels.shape[1], patches))


def grid_of(height: int, width: int, patches: int) -> tuple[int, int]:
    """Rows and columns of at most `patches` nearly square patches that cover an image."""
    rows = min(max(1, round(math.sqrt(patches * height / width))), _LONGEST_SIDE, patches)
    columns = min(max(1, round(rows * width / height)), _LONGEST_SIDE)
    while rows * columns > patches and columns > 1:
        columns -= 1
    return rows, columns


def load_patch_features(
    spec: str, *, device: str = "cpu", precision: str = "float32"
) -> PatchFeatures:
    """The source of features for a spec.

    Args:
        spec: a CLIP as for `parse_clip`, whose last values are the features; ENCODER:FILE or
            ENCODER:random:SEED for one of `encoders.dense_vit.ARCHITECTURES`, such as
            vit_small_patch8_224.dino:dino.pth; or `colours`, which needs no weights.
        device: of the network.
        precision: of the network, `float32` or `bfloat16`.

    Raises:
        WeightsError: the weights are missing, of another model, or of one without patch tokens.
    """
    from zutis_model.encoders.dense_vit import ARCHITECTURES
    from zutis_model.encoders.patch_colours import patch_colours

    if spec == COLOURS:
        return PatchFeatures(COLOURS, patch_colours)
    architecture, _, weights = spec.partition(":")
    if architecture in ARCHITECTURES:
        return _dense_vit(architecture, weights, device, precision)
    return _clip(spec, device, precision)


def _clip(spec: str, device: str, precision: str) -> PatchFeatures:
    from zutis_model.baselines.maskclip import maskclip_tokens
    from zutis_model.clip.dense import check_is_dense, patch_size

    config = resolve_clip(spec, device=device, precision=precision)
    require_patch_tokens(config, "features of patches")
    weights = config.weights
    clip = load_clip_model(config)
    try:
        size = patch_size(check_is_dense(clip.model.visual))
    except ValueError as error:
        raise WeightsError(f"{weights.label} has no patch features: {error}.") from error
    return PatchFeatures(
        weights.label,
        _by_network(lambda images: maskclip_tokens(clip, clip.normalise(images)), size),
    )


def _dense_vit(architecture: str, weights: str, device: str, precision: str) -> PatchFeatures:
    from zutis_model.encoders.dense_vit import load_dense_vit
    from zutis_model.layers.normalisation import normalise

    if not weights:
        raise WeightsError(
            f"{architecture!r} names no weights; write {architecture}:FILE or"
            f" {architecture}:random:0."
        )
    seed = seed_of(weights)
    state_dict = None if seed is not None else load_state_dict(user_path(weights))
    try:
        network = load_dense_vit(
            architecture,
            state_dict,
            seed=seed or 0,
            device=device,
            precision=precision,  # type: ignore[arg-type]  # checked there
        )
    except ValueError as error:
        raise WeightsError(f"{weights} can't be loaded as {architecture}: {error}") from error
    label = f"{architecture}:{weights}" + (" (untrained)" if state_dict is None else "")
    return PatchFeatures(
        label,
        _by_network(
            lambda images: network.encode(normalise(images.to(device))), network.patch_size
        ),
    )


def _by_network(
    encode: Callable[[Tensor], Tensor], patch_size: int
) -> Callable[[Pixels, int, int], NDArray[np.float32]]:
    """Features of an image, resized so that the network's patches form the grid.

    Args:
        encode: uint8 [1, 3, h, w] of whole patches to float [1, r, c, d].
        patch_size: p.
    """

    def on_grid(pixels: Pixels, rows: int, columns: int) -> NDArray[np.float32]:
        import torch

        size = (columns * patch_size, rows * patch_size)
        resized = np.array(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
        with torch.inference_mode():
            found = encode(torch.from_numpy(resized).permute(2, 0, 1)[None])
        features: NDArray[np.float32] = found[0].float().cpu().numpy()
        return features

    return on_grid
