"""SelfMask: class-agnostic masks of salient objects, learned without labels (Shin et al. 2022).

A DINO-style ViT-S/8 gives patch tokens; a transformer decoder turns learned queries into object
queries; a mask is the product of one query with the tokens, and a small perceptron scores how
likely a query is an object. The architecture is the inference network of the ZUTIS reference
(`networks/selfmask/selfmask.py`), and so are the names in the state dict.

Dimensions:
    b     images in the batch
    h, w  image rows, columns
    r, c  patch rows, columns: h / 8 and w / 8, rounded up
    l     decoder layers
    q     queries
    d     width; 384 in the published network
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from zutis_model.layers.input_checks import check_images
from zutis_model.layers.perceptron import Perceptron
from zutis_model.layers.precision import Precision, autocast, check_precision
from zutis_model.layers.synthetic_weights import fill_with_synthetic_weights
from zutis_model.layers.transformer_decoder import TransformerDecoder
from zutis_model.layers.vit_positions import resized_position_embedding
from zutis_model.layers.weight_loading import WithoutRandomInitialisation, load_strictly
from zutis_model.saliency.selfmask_sizes import PUBLISHED, SelfMaskSizes, sizes_of_state_dict

PATCH_SIZE = 8
_FEEDFORWARD_FACTOR = 4
_MASKS_PER_PATCH = 2  # mask pixels along a patch's side
_UPSAMPLING_TO_IMAGE = PATCH_SIZE // _MASKS_PER_PATCH
_CONFIDENT = 0.5  # objectness over the best query's
_COVERED = 0.8  # IoU of a query's mask with a better one's
_ROWS_AT_ONCE = 1024  # tokens in an encoder layer's perceptron at a time, on a CPU


@dataclass(frozen=True)
class SelfMaskOutput:
    """The network's output for a batch.

    Attributes:
        mask_logits: float32 [b, q, 2r, 2c]; covers the image padded to a multiple of 8.
        objectness_logits: float32 [b, q].

    With all decoder layers, there is a dimension l behind b, here and in what follows.
    """

    mask_logits: Tensor
    objectness_logits: Tensor

    @property
    def mask_pred(self) -> Tensor:
        """Soft masks, float32 [b, q, 2r, 2c] in 0..1."""
        return self.mask_logits.sigmoid()

    @property
    def objectness(self) -> Tensor:
        """Likelihood that a query is an object, float32 [b, q] in 0..1."""
        return self.objectness_logits.sigmoid()


class SelfMask(nn.Module):
    """The network. Use `load_selfmask` to get one with weights.

    Args:
        sizes: the published checkpoints have 10 or 20 queries, and are alike in all else.
        precision: arithmetic of `encode`, `forward` and `predict`; outputs are float32 either way.

    Raises:
        ValueError: unknown precision.
    """

    def __init__(self, sizes: SelfMaskSizes = PUBLISHED, precision: Precision = "float32") -> None:
        super().__init__()
        check_precision(precision)
        self.sizes = sizes
        self.precision: Precision = precision
        # Its layer norms have an epsilon of 1e-6, the decoder's 1e-5.
        self.encoder = VisionTransformer(
            img_size=sizes.image_size,
            patch_size=PATCH_SIZE,
            embed_dim=sizes.width,
            depth=sizes.encoder_layers,
            num_heads=sizes.heads,
            mlp_ratio=_FEEDFORWARD_FACTOR,
            num_classes=0,
            weight_init="skip",  # initial weights take a second to draw and aren't kept
        )
        self.decoder = TransformerDecoder(
            sizes.width, sizes.decoder_layers, sizes.heads, _FEEDFORWARD_FACTOR * sizes.width
        )
        self.query_embed = nn.Parameter(torch.randn(sizes.queries, sizes.width))
        self.ffn = Perceptron(sizes.width, sizes.width, 1)  # objectness

    @property
    def device(self) -> torch.device:
        return self.query_embed.device

    def encode(self, images: Tensor) -> Tensor:
        """Patch tokens of the encoder's last layer, after its norm, without the class token.

        Args:
            images: float32 [b, 3, h, w], normalised with the ImageNet statistics; any size.

        Returns:
            float [b, r, c, d], row-major.

        Raises:
            ValueError: `images` are not of that shape or type, or, outside of training, hold a NaN
                or an infinite value.
        """
        check_images(images, training=self.training)
        with autocast(self.device, self.precision):
            # Zeros are the mean colour here. The padding takes part in the attention, as it did
            # when the weights were trained.
            patches = self.encoder.patch_embed.proj(_pad_to_patches(images))
            rows, columns = patches.shape[-2:]
            tokens: Tensor = patches.flatten(2).transpose(1, 2)
            class_token = self.encoder.get_parameter("cls_token").expand(len(tokens), -1, -1)
            tokens = torch.cat([class_token, tokens], dim=1)
            tokens = tokens + resized_position_embedding(
                self.encoder.get_parameter("pos_embed"), rows, columns
            )
            for block in cast("Iterable[Block]", self.encoder.blocks):
                tokens = _encoder_layer(block, tokens)
            tokens = self.encoder.norm(tokens)
        return tokens[:, 1:].reshape(-1, rows, columns, self.sizes.width)

    def forward(self, images: Tensor, *, all_layers: bool = False) -> SelfMaskOutput:
        """All queries' masks and objectness, from the last decoder layer.

        Args:
            images: float32 [b, 3, h, w], normalised with the ImageNet statistics; any size.
                Attention is over all r·c patches, so time grows with the square of the area.
            all_layers: from every decoder layer (training): masks are [b, l, q, 2r, 2c] then,
                objectness is [b, l, q].

        Returns:
            Masks of the padded image: crop after upsampling by 4, or use `predict`.

        Raises:
            ValueError: as `encode`.
        """
        tokens = self.encode(images)
        queries = self._queries(tokens, all_layers=all_layers)
        with autocast(self.device, self.precision):
            objectness_logits = self.ffn(queries).squeeze(-1).float()
        # A mask is made of one query and the tokens, so the layers' queries can be one long list.
        mask_logits = self._mask_logits(queries.flatten(1, 2), tokens)
        if not all_layers:
            return SelfMaskOutput(mask_logits, objectness_logits[:, 0])
        mask_logits = mask_logits.view(*queries.shape[:3], *mask_logits.shape[2:])
        return SelfMaskOutput(mask_logits, objectness_logits)

    @torch.inference_mode()
    def predict(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Each image's most object-like mask, at the image's resolution.

        Only that mask is upsampled: the memory doesn't grow with queries times pixels.

        Args:
            images: float32 [b, 3, h, w], normalised with the ImageNet statistics; any size.

        Returns:
            soft masks: float32 [b, h, w] in 0..1; the reference's mask is `soft > 0.5`.
            objectness: float32 [b] in 0..1, of the queries the masks come from.

        Raises:
            ValueError: as `encode`.
        """
        tokens = self.encode(images)
        queries = self._queries(tokens)[:, 0]
        with autocast(self.device, self.precision):
            objectness_logits = self.ffn(queries).squeeze(-1).float()

        # Logits, not probabilities: sigmoid rounds different large logits to equal ones.
        best = objectness_logits.argmax(dim=1, keepdim=True)  # [b, 1]
        best_query = queries.take_along_dim(best[..., None], dim=1)  # [b, 1, d]
        # The reference upsamples probabilities, not logits.
        soft = self._mask_logits(best_query, tokens).sigmoid()
        soft = F.interpolate(soft, scale_factor=_UPSAMPLING_TO_IMAGE, mode="bilinear")
        objectness = objectness_logits.take_along_dim(best, dim=1).sigmoid()
        height, width = images.shape[-2:]
        return soft[:, 0, :height, :width].contiguous(), objectness[:, 0]

    @torch.inference_mode()
    def predict_several(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The masks of each image's confident queries that no better one covers.

        A query is confident from half of the best one's objectness on, and covered by a better one
        where the IoU of their masks is 0.8 or more. Only what is returned is upsampled.

        Args:
            images: as of `predict`.

        Returns:
            Of each image, from the best query on: soft masks, float32 [n, h, w] in 0..1, and
            objectness, float32 [n] in 0..1; n from 1 to q. The first are those of `predict`.

        Raises:
            ValueError: as `encode`.
        """
        output = self(images)
        height, width = images.shape[-2:]
        found = []
        for logits, scores in zip(output.mask_logits, output.objectness_logits, strict=True):
            chosen = _uncovered(logits, scores)
            soft = F.interpolate(
                logits[None, chosen].sigmoid(), scale_factor=_UPSAMPLING_TO_IMAGE, mode="bilinear"
            )
            found.append((soft[0, :, :height, :width].contiguous(), scores[chosen].sigmoid()))
        return found

    def _queries(self, tokens: Tensor, *, all_layers: bool = False) -> Tensor:
        """Object queries, [b, l, q, d]; of the last layer alone, l = 1, or of all."""
        with autocast(self.device, self.precision):
            # SelfMask gives the decoder no position of the memory (ZUTIS does).
            queries: Tensor = self.decoder(
                self.query_embed, tokens.flatten(1, 2), all_layers=all_layers
            )
        return queries.transpose(0, 1)

    def _mask_logits(self, queries: Tensor, tokens: Tensor) -> Tensor:
        with autocast(self.device, self.precision):
            logits = torch.einsum("bqd,brcd->bqrc", queries, tokens)
        # The reference upsamples the tokens, then multiplies. Both are linear, so they commute;
        # this way round there are q channels to upsample and not d.
        return F.interpolate(logits.float(), scale_factor=_MASKS_PER_PATCH, mode="bilinear")


def load_selfmask(
    state_dict: Mapping[str, Tensor] | None = None,
    *,
    num_queries: int = PUBLISHED.queries,
    sizes: SelfMaskSizes | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    precision: Precision = "float32",
) -> SelfMask:
    """SelfMask with weights, in eval mode.

    Args:
        state_dict: a published checkpoint's, or that of a network of any sizes, float32 or
            narrower; the sizes are read from it. None: the synthetic weights of `seed`.
        num_queries: q of a network with synthetic weights.
        sizes: of a network with synthetic weights, all of them; `num_queries` is not read then.
            With a state dict, in place of the sizes read from it: needed only where the heads are
            not those of `selfmask_sizes.heads_of_width`.
        seed: see `synthetic_weights.synthetic_weight`.
        device: where the network lives; move the images there.
        precision: `float32`, or `bfloat16` (autocast) for speed where results may differ a little.

    Raises:
        ValueError: the state dict is of another model (the message names keys), or the precision
            or the seed is not a valid one.
    """
    if sizes is None:
        given = SelfMaskSizes(queries=num_queries)
        sizes = given if state_dict is None else sizes_of_state_dict(state_dict)
    with WithoutRandomInitialisation():
        network = SelfMask(sizes, precision)
    if state_dict is None:
        fill_with_synthetic_weights(network, seed)
    else:
        load_strictly(network, state_dict, f"SelfMask ({sizes})")
    return network.to(device).eval().requires_grad_(False)


def _uncovered(logits: Tensor, scores: Tensor) -> list[int]:
    """Places of the confident queries that no better one covers, the best first, of mask logits
    [q, r, c] and objectness logits [q]."""
    masks = (logits > 0).flatten(1).float()
    overlaps = masks @ masks.T
    areas = overlaps.diagonal()
    ious = overlaps / (areas[:, None] + areas - overlaps).clamp(min=1)
    confident = scores.sigmoid() >= _CONFIDENT * scores.sigmoid().max()
    kept: list[int] = []
    for place in scores.argsort(descending=True, stable=True).tolist():
        covered = bool(kept) and bool((ious[place, kept] >= _COVERED).any())
        if confident[place] and not covered:
            kept.append(place)
    return kept


def _encoder_layer(block: Block, tokens: Tensor) -> Tensor:
    """timm's block, on a CPU with its perceptron on a part of the tokens at a time.

    Args:
        tokens: float [b, n, d], n = 1 + r·c.

    Returns:
        float [b, n, d].
    """
    tokens = tokens + block.attn(block.norm1(tokens))
    rows = tokens.flatten(0, 1)
    # The hidden layer is four times as wide as the tokens. All of it at once is so large that the
    # C library asks the system for new memory in every layer, which the system clears page by
    # page. That took 4 to 8 % of the time at 512 x 683; a part at a time reuses its memory.
    size = _ROWS_AT_ONCE if rows.device.type == "cpu" else max(1, len(rows))
    parts = [part + block.mlp(block.norm2(part)) for part in torch.split(rows, size)]
    return torch.cat(parts).view_as(tokens)


def _pad_to_patches(images: Tensor) -> Tensor:
    """Zeros at the right and the bottom, up to a multiple of the patch size."""
    height, width = images.shape[-2:]
    return F.pad(images, (0, -width % PATCH_SIZE, 0, -height % PATCH_SIZE))
