"""CLIP's image tower as a dense encoder: a token for every patch, at any image size.

The towers are open_clip's; their names in the state dict are OpenAI's. ViTs give their last
layer's patch tokens; ResNets (RN50, RN50x16, ...: the reference's ablations) the features before
their attention pooling. Both follow `networks/clip_arch.py` of the ZUTIS reference.

Dimensions:
    b     images in the batch
    h, w  image rows, columns
    p     patch size: pixels along a patch's side; 32 for ResNets
    r, c  patch rows, columns: h // p and w // p, the remainder at the right and the bottom is lost
          (a ResNet's padding saves one pixel: (h + 1) // p)
    t     tokens: the class token (or ResNets' mean token) and r * c patches
    e     width of the tower
    d     width of the joint embedding of images and texts
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from open_clip.modified_resnet import AttentionPool2d, ModifiedResNet
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

# open_clip's VisionTransformer or ModifiedResNet, which have no types.
ImageTower: TypeAlias = Any

_RESNET_STRIDE = 32
# Added to the number of patches before it is divided by the grid's: see `_position_embedding`.
_SCALE_OFFSET = 0.1


def check_is_dense(tower: nn.Module) -> ImageTower:
    """The tower itself, if its tokens keep their positions.

    Args:
        tower: `visual` of an open_clip model.

    Raises:
        ValueError: it is a tower of another kind (timm's, or with attentional pooling).
    """
    if isinstance(tower, ModifiedResNet) or _is_plain_vit(tower):
        return tower
    raise ValueError(
        f"an image tower of the kind {type(tower).__name__} has no patch tokens that can be "
        "compared with texts; use one of CLIP's ViTs or ResNets, such as 'ViT-B-16-quickgelu'"
    )


def _is_plain_vit(tower: nn.Module) -> bool:
    return (
        isinstance(tower, VisionTransformer)
        and tower.attn_pool is None
        # Blocks of other kinds (cosine attention, scaled heads) have no plain values.
        and isinstance(tower.transformer.resblocks[-1].attn, nn.MultiheadAttention)
    )


def patch_size(tower: ImageTower) -> int:
    """Pixels along a patch's side, p."""
    if isinstance(tower, ModifiedResNet):
        return _RESNET_STRIDE
    size: int = tower.patch_size[0]
    return size


def token_width(tower: ImageTower) -> int:
    """Channels of a patch token, e."""
    if isinstance(tower, ModifiedResNet):
        width: int = tower.attnpool.positional_embedding.shape[1]
    else:
        width = tower.class_embedding.shape[0]
    return width


def patch_tokens(tower: ImageTower, images: Tensor) -> Tensor:
    """The tower's last patch tokens, before the projection to the joint embedding.

    ViTs: after the final norm, which CLIP itself applies to the class token only. ResNets: the
    features that the attention pooling gets.

    Args:
        images: float [b, 3, h, w], normalised; h and w at least p. Pixels beyond the last whole
            patch are not seen.

    Returns:
        float [b, r, c, e].

    Raises:
        ValueError: the images hold no whole patch.
    """
    _check_holds_a_patch(tower, images)
    if isinstance(tower, ModifiedResNet):
        return _resnet_features(tower, images)
    tokens, rows, columns = _embed_patches(tower, images)
    tokens = tower.ln_post(tower.transformer(tokens))
    return _without_class_token(tokens, rows, columns)


def value_tokens(tower: ImageTower, images: Tensor) -> Tensor:
    """MaskCLIP's features: each token attends only to itself in the last attention (section 3.1).

    The last attention mixes tokens until they represent the whole image; its values alone stay
    local. In a ViT, the values pass the attention's output projection, the residual connection
    and the rest of the last block as usual.

    Args:
        images: as for `patch_tokens`.

    Returns:
        float [b, r, c, d], in the joint embedding, not normalised.

    Raises:
        ValueError: the images hold no whole patch.
    """
    _check_holds_a_patch(tower, images)
    if isinstance(tower, ModifiedResNet):
        pooling = tower.attnpool
        values: Tensor = pooling.c_proj(pooling.v_proj(_resnet_features(tower, images)))
        return values
    tokens, rows, columns = _embed_patches(tower, images)
    *blocks, last = tower.transformer.resblocks
    for block in blocks:
        tokens = block(tokens)
    attention = last.attn
    value_weight = attention.in_proj_weight.chunk(3)[2]
    value_bias = attention.in_proj_bias.chunk(3)[2]
    values = attention.out_proj(F.linear(last.ln_1(tokens), value_weight, value_bias))
    tokens = tokens + last.ls_1(values)
    tokens = tokens + last.ls_2(last.mlp(last.ln_2(tokens)))
    return _without_class_token(tower.ln_post(tokens) @ tower.proj, rows, columns)


def project(tower: ImageTower, tokens: Tensor) -> Tensor:
    """Tokens to the joint embedding, where they can be compared with texts.

    ViTs: the linear projection. ResNets: the attention pooling, with every place as a query; so
    tokens influence one another.

    Args:
        tokens: float [b, r, c, e] of `patch_tokens`; r and c may differ from those of any image.

    Returns:
        float [b, r, c, d], not normalised.
    """
    if isinstance(tower, ModifiedResNet):
        _, rows, columns, _ = tokens.shape
        return _without_class_token(_attention_pool(tower.attnpool, tokens), rows, columns)
    projected: Tensor = tokens @ tower.proj
    return projected


def _check_holds_a_patch(tower: ImageTower, images: Tensor) -> None:
    height, width = images.shape[-2:]
    size = patch_size(tower)
    if min(height, width) < size:
        raise ValueError(
            f"images of {height} x {width} pixels hold no patch of {size} x {size}; enlarge them"
        )


def _embed_patches(tower: VisionTransformer, images: Tensor) -> tuple[Tensor, int, int]:
    """The first block's input, float [b, t, e], and r and c."""
    patches = tower.conv1(images)
    rows, columns = patches.shape[-2:]
    class_token = tower.class_embedding.expand(len(images), 1, -1).to(patches.dtype)
    tokens = torch.cat([class_token, patches.flatten(2).transpose(1, 2)], dim=1)
    tokens = tokens + _position_embedding(tower.positional_embedding, rows, columns)
    return tower.ln_pre(tokens), rows, columns


def _without_class_token(tokens: Tensor, rows: int, columns: int) -> Tensor:
    """[b, t, channels] to [b, r, c, channels]."""
    return tokens[:, 1:].reshape(len(tokens), rows, columns, -1)


def _resnet_features(tower: ModifiedResNet, images: Tensor) -> Tensor:
    """Features of the last stage, float [b, r, c, e]."""
    features = tower.stem(images)
    for stage in (tower.layer1, tower.layer2, tower.layer3, tower.layer4):
        features = stage(features)
    channels_last: Tensor = features.permute(0, 2, 3, 1)
    return channels_last


def _attention_pool(pooling: AttentionPool2d, tokens: Tensor) -> Tensor:
    """open_clip's attention pooling with all tokens as queries: [b, r, c, e] to [b, t, d]."""
    _, rows, columns, _ = tokens.shape
    tokens = tokens.flatten(1, 2)
    tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)
    tokens = tokens + _position_embedding(pooling.positional_embedding, rows, columns)
    heads = (
        projection(tokens).unflatten(-1, (pooling.num_heads, -1)).transpose(1, 2)
        for projection in (pooling.q_proj, pooling.k_proj, pooling.v_proj)
    )
    attended = F.scaled_dot_product_attention(*heads)
    pooled: Tensor = pooling.c_proj(attended.transpose(1, 2).flatten(2))
    return pooled


def _position_embedding(position: Tensor, rows: int, columns: int) -> Tensor:
    """Position embedding of the class token and r x c patches, float [t, e].

    Args:
        position: float [1 + g * g, e], the learned embedding of a square grid.
    """
    class_position, grid_position = position[:1], position[1:]
    grid = math.isqrt(len(grid_position))
    # The reference, like DINO, hands `interpolate` the scale (n + 0.1) / grid, not the size n. The
    # offset was meant against rounding, but bicubic sampling uses the scale as it is given, so
    # that every position moves a little, at the native grid too. The published weights were
    # trained with it: with the exact size, masks change by 0.2.
    resized = F.interpolate(
        grid_position.T.reshape(1, -1, grid, grid),
        scale_factor=((rows + _SCALE_OFFSET) / grid, (columns + _SCALE_OFFSET) / grid),
        mode="bicubic",
    )
    assert resized.shape[-2:] == (rows, columns)
    return torch.cat([class_position, resized[0].flatten(1).T])
