"""Contrastive training of a CLIP from scratch (Radford et al. 2021, section 2.3, figure 3).

    model = new_clip("made-ViT-8", seed=0)
    loss = contrastive_loss(*embed_pairs(model, images, tokens), model.logit_scale.exp())

Dimensions:
    n     pairs of an image and its caption
    t     images along the side of a mosaic
    s     rows and columns of the images
    c     context length of the text tower
    d     width of the joint embedding
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import open_clip
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from open_clip.model import resize_pos_embed
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from zutis_model.clip.dense import patch_tokens, project
from zutis_model.clip.own_architectures import make_model
from zutis_model.clip.towers import check_architecture, encode_text, without_root_logging
from zutis_model.layers.normalisation import normalise
from zutis_model.layers.sine_position import sine_position
from zutis_model.training.muon import inner_matrices, make_muon

_SINE_SHARE = 0.3
_MUON_RATE = 10.0
LARGEST_SCALE = 100.0
"""The largest factor of cosines in the loss: larger ones were unstable (section 2.5)."""


def new_clip(
    architecture: str,
    seed: int,
    *,
    image_size: int | None = None,
    state_dict: Mapping[str, Tensor] | None = None,
) -> open_clip.CLIP:
    """A CLIP to be trained, in train mode, on the CPU.

    Args:
        architecture: one whose two towers are CLIP's own kinds.
        seed: of the initial weights.
        image_size: s; None: the architecture's own. Small images make training fast.
        state_dict: weights to go on from, such as those of training at another size, whose
            position embeddings are then resized. None: initial weights.

    Raises:
        ValueError: the architecture is unknown.
    """
    check_architecture(architecture)
    with torch.random.fork_rng(devices=[]), without_root_logging():
        torch.manual_seed(seed)
        model: open_clip.CLIP = make_model(architecture, force_image_size=image_size)
        if state_dict is None:
            _place_patches(model)
        else:
            weights = dict(state_dict)
            resize_pos_embed(weights, model)
            model.load_state_dict(weights)
    return model.train()


def embed_pairs(
    model: open_clip.CLIP, images: Tensor, tokens: Tensor, tiles: int = 1
) -> tuple[Tensor, Tensor]:
    """Both towers' embeddings.

    Args:
        model: see `new_clip`; its image size is t · s.
        images: uint8 [n, 3, s, s], RGB.
        tokens: int64 [n, c].
        tiles: t. From 2 on, the image tower sees mosaics of t · t images, and the embedding of each
            is the mean of its own patch tokens. A caption then has to be matched among its
            neighbours in the mosaic, so that tokens learn local content, which a mean over whole
            images does not require. n is a multiple of t · t, and s of the patch size.

    Returns:
        Of the images and of the texts: float32 [n, d] each, unit rows.

    Raises:
        ValueError: mosaics for a tower whose embedding is not the mean of its tokens, or of
            another number of images.
    """
    visual = model.visual
    normalised = normalise(images, visual.image_mean, visual.image_std)
    # On a CPU, the gradient of PyTorch's fused attention takes as long as all else together when
    # there are few tokens; plain matrix products make a step 1.6 times as fast.
    with sdpa_kernel(SDPBackend.MATH):
        encoded = (
            model.encode_image(normalised)
            if tiles == 1
            else _embed_tiles(model, normalised, tiles),
            encode_text(model, tokens),
        )
    return F.normalize(encoded[0].float(), dim=-1), F.normalize(encoded[1].float(), dim=-1)


def _embed_tiles(model: open_clip.CLIP, images: Tensor, tiles: int) -> Tensor:
    visual = model.visual
    if visual.pool_type != "avg" or len(images) % tiles**2:
        raise ValueError(
            f"mosaics of {tiles} x {tiles} need a multiple of {tiles**2} images, got "
            f"{len(images)}, and a tower with the pooling avg, got {visual.pool_type}"
        )
    _, channels, height, width = images.shape
    grid = images.reshape(-1, tiles, tiles, channels, height, width).permute(0, 3, 1, 4, 2, 5)
    mosaics = grid.reshape(-1, channels, tiles * height, tiles * width)
    embedded = project(visual, patch_tokens(visual, mosaics))
    count, rows, columns, dimension = embedded.shape
    places = count, tiles, rows // tiles, tiles, columns // tiles, dimension
    return embedded.reshape(places).mean(dim=(2, 4)).reshape(-1, dimension)


def contrastive_loss(image_embeddings: Tensor, text_embeddings: Tensor, scale: Tensor) -> Tensor:
    """The mean of two cross-entropies: of the texts for each image, and the other way round.

    With z = scale * images @ texts.T and the pairs on its diagonal as targets t, it is
    (cross_entropy(z, t) + cross_entropy(z.T, t)) / 2. Captions that several images of a batch
    have raise the loss by a constant and leave the gradient that targets shared among them would
    give, so nothing is done about them.

    Args:
        image_embeddings: float32 [n, d], unit rows.
        text_embeddings: likewise, of the captions in the same order.
        scale: float [], above 0: the factor of cosines.

    Returns:
        float32 [].

    Raises:
        ValueError: shapes that don't belong together, or no pair.
    """
    shapes = image_embeddings.shape, text_embeddings.shape
    if len(shapes[0]) != 2 or shapes[0] != shapes[1] or shapes[0][0] == 0:
        raise ValueError(
            "embeddings must both be [n, d] of n pairs with n above 0, got"
            f" {list(shapes[0])} and {list(shapes[1])}"
        )
    logits = scale * image_embeddings @ text_embeddings.T
    pairs = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2


@torch.no_grad()
def limit_scale(model: open_clip.CLIP) -> None:
    """Keep the learned scale at `LARGEST_SCALE` or below; call it after each step."""
    model.logit_scale.clamp_(max=math.log(LARGEST_SCALE))


def make_optimisers(
    model: open_clip.CLIP, learning_rate: float, weight_decay: float
) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside blocks, AdamW for all else.

    In trials on the made world this needed several times fewer images than AdamW alone. Weights
    decay in matrices and kernels and not in gains, biases and the scale (section 2.5).

    Args:
        model: see `new_clip`.
        learning_rate: of AdamW; Muon, whose steps are of the same size for any gradient, has ten
            times as much.
        weight_decay: of both.
    """
    inner = inner_matrices(model.named_parameters())
    matrices = [tensor for name, tensor in model.named_parameters() if name in inner]
    outer = [tensor for name, tensor in model.named_parameters() if name not in inner]
    return [
        make_muon([(matrices, _MUON_RATE * learning_rate)], weight_decay),
        torch.optim.AdamW(
            [
                {"params": [p for p in outer if p.ndim > 1], "weight_decay": weight_decay},
                {"params": [p for p in outer if p.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=learning_rate,
            betas=(0.9, 0.98),
            eps=1e-6,
        ),
    ]


@torch.no_grad()
def _place_patches(model: open_clip.CLIP) -> None:
    """Initialise positions so that neighbours are similar, which saves learning it.

    The initial position embedding of open_clip is noise; a plain ViT trained for a short time is
    better with sines and cosines (Beyer et al. 2022).
    """
    positions = model.visual.positional_embedding
    rows, columns = model.visual.grid_size
    positions[1:] += _SINE_SHARE * sine_position(rows, columns, positions.shape[1])
