"""CLIP (Radford et al. 2021): one vector per image and per prompt, on open_clip.

Nothing here reaches the network: weights are handed in, tokenizers are part of open_clip. The
architectures are open_clip's and ours (see `own_architectures`).

Dimensions:
    n     images or prompts
    h, w  rows and columns of the model's input
    d     width of the joint embedding
"""

from __future__ import annotations

import bisect
import difflib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import open_clip
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from open_clip.model import convert_to_custom_text_state_dict
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor, nn

from zutis_model.clip.own_architectures import (
    Tokenizer,
    known_architectures,
    make_model,
    make_tokenizer,
)
from zutis_model.layers.input_checks import check_images
from zutis_model.layers.normalisation import normalise
from zutis_model.layers.precision import Precision, autocast, check_precision
from zutis_model.layers.synthetic_weights import fill_with_synthetic_weights
from zutis_model.layers.weight_loading import WithoutRandomInitialisation, load_strictly

OPENAI_EXTRAS = frozenset({"input_resolution", "context_length", "vocab_size"})
"""OpenAI's state dicts carry these numbers beside the weights; others don't."""

_MARKS = 3
"""Tokens that begin and end every text, and a space that some tokenizers put before it."""

_DATA_PARALLEL_PREFIX = "module."


class Clip:
    """Image and text towers with weights. Use `load_clip` to get one.

    Attributes:
        model: open_clip's module, in eval mode; weights are float32.
        embedding_dim: d.
        image_size: (h, w) that `preprocess` makes and `embed_images` takes.
        preprocessing: the steps of `preprocess`, in open_clip's terms: `size`, `mean`, `std`,
            `interpolation`, `resize_mode` (`shortest` and the central square, or `squash`).
        logit_scale: factor of cosines before a softmax; 100.0 for OpenAI's weights. Of a SigLIP,
            before the sigmoid.
        logit_bias: the term that a SigLIP then adds, so that the sigmoid of each pair is a
            probability (Zhai et al. 2023, section 3.2); None for a model trained with a softmax.
        device: where the weights are, and where embeddings are returned.
        precision: arithmetic of the towers; embeddings are float32 either way.
    """

    def __init__(
        self,
        model: open_clip.CLIP | open_clip.CustomTextCLIP,
        tokenizer: Tokenizer,
        *,
        embedding_dim: int,
        device: torch.device,
        precision: Precision,
    ) -> None:
        self.model = model
        self.embedding_dim = embedding_dim
        self.device = device
        self.precision: Precision = precision
        self.logit_scale = float(model.logit_scale.detach().float().exp())
        bias = model.logit_bias
        self.logit_bias = None if bias is None else float(bias.detach().float())
        self._tokenizer = tokenizer
        preprocess_config = PreprocessCfg(**open_clip.get_model_preprocess_cfg(model))
        self.image_size = _height_and_width(preprocess_config.size)
        self.preprocessing: dict[str, Any] = {
            "size": list(self.image_size),
            "mean": list(preprocess_config.mean),
            "std": list(preprocess_config.std),
            "interpolation": preprocess_config.interpolation,
            "resize_mode": preprocess_config.resize_mode,
        }
        self._mean, self._std = preprocess_config.mean, preprocess_config.std
        self._transform = image_transform_v2(preprocess_config, is_train=False)

    def preprocess(self, image: Image.Image) -> Tensor:
        """Resize, crop and normalise one image as open_clip does at inference.

        For OpenAI's models: PIL's bicubic on the shorter side, the central square, CLIP's own
        mean and standard deviation. SigLIP squashes the whole image; see `preprocessing`.

        Args:
            image: RGB, any size. Very elongated images are large in between: their shorter side
                is brought to the model's before the crop.

        Returns:
            float32 [3, h, w] on the CPU.

        Raises:
            ValueError: the image is not RGB.
        """
        if image.mode != "RGB":
            # Converted after resizing, palettes and alpha would give other pixels.
            raise ValueError(f"expected an RGB image, got mode {image.mode}")
        pixel_values: Tensor = self._transform(image)
        return pixel_values

    def normalise(self, images: Tensor) -> Tensor:
        """Normalise images with the model's own statistics, at the size that they have.

        Args:
            images: uint8 [..., 3, h, w], RGB.

        Returns:
            float32 [..., 3, h, w] on the same device: the input of `maskclip_tokens`.

        Raises:
            ValueError: another type, or no three channels.
        """
        return normalise(images, self._mean, self._std)

    @torch.inference_mode()
    def embed_images(self, pixel_values: Tensor) -> Tensor:
        """Embed preprocessed images.

        Args:
            pixel_values: float32 [n, 3, h, w] from `preprocess`, on any device.

        Returns:
            float32 [n, d] on the model's device, rows of unit norm.

        Raises:
            ValueError: another shape, size or type, or NaN.
        """
        check_images(pixel_values)
        if pixel_values.shape[2:] != self.image_size:
            height, width = self.image_size
            raise ValueError(
                f"pixel_values must be [n, 3, {height}, {width}], got {list(pixel_values.shape)}; "
                "`preprocess` makes them so"
            )
        with autocast(self.device, self.precision):
            embeddings = self.model.encode_image(pixel_values.to(self.device))
        return F.normalize(embeddings.float(), dim=-1)

    def tokenize(self, prompts: Sequence[str]) -> Tensor:
        """Token ids with start and end marks.

        Args:
            prompts: n texts; those beyond the context are cut off, and the end mark is kept.

        Returns:
            int64 [n, context length] on the CPU, zeros after the end.
        """
        return self._tokenizer(list(prompts))

    def cut_off(self, prompt: str) -> str:
        """The words at the end of a text that do not fit the context; empty if all of it fits.

        Found with the model's own tokenizer: words that can be removed without a change of
        tokens are not read. A word that is read in part is not counted.
        """
        # A token is a letter or more, so that most prompts fit by their length alone. Some
        # tokenizers make several of other alphabets' letters.
        if prompt.isascii() and len(prompt) + _MARKS <= self.model.context_length:
            return ""
        read = self.tokenize([prompt])
        if not torch.equal(read, self.tokenize([f"{prompt} end"])):
            return ""  # there is room for more
        words = prompt.split()
        kept = bisect.bisect_left(
            range(len(words)),
            True,
            key=lambda n: torch.equal(read, self.tokenize([" ".join(words[:n])])),
        )
        return " ".join(words[kept:])

    @torch.inference_mode()
    def embed_prompts(self, prompts: Sequence[str], batch_size: int = 256) -> Tensor:
        """Embed texts.

        Args:
            prompts: n texts; n may be 0. See `tokenize` for long ones.
            batch_size: prompts in one pass through the tower.

        Returns:
            float32 [n, d] on the model's device: the tower's output, not normalised.

        Raises:
            ValueError: `batch_size` is below 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        embeddings = [torch.empty(0, self.embedding_dim, device=self.device)]
        for start in range(0, len(prompts), batch_size):
            tokens = self.tokenize(prompts[start : start + batch_size]).to(self.device)
            with autocast(self.device, self.precision):
                embeddings.append(encode_text(self.model, tokens).float())
        return torch.cat(embeddings)

    @staticmethod
    def ensemble(prompt_embeddings: Tensor) -> Tensor:
        """One embedding for a category that several prompts describe (CLIP, section 3.1.4).

        Args:
            prompt_embeddings: float [n, d], n at least 1, such as `embed_prompts` gives.

        Returns:
            float [d] of unit norm: the normalised mean of the normalised rows.

        Raises:
            ValueError: not two-dimensional, or no row.
        """
        if prompt_embeddings.ndim != 2 or len(prompt_embeddings) == 0:
            raise ValueError(f"expected [n, d] with n > 0, got {list(prompt_embeddings.shape)}")
        return F.normalize(F.normalize(prompt_embeddings, dim=-1).mean(dim=0), dim=-1)


def load_clip(
    architecture: str,
    state_dict: Mapping[str, Tensor] | None = None,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    precision: Precision = "float32",
) -> Clip:
    """CLIP with weights, ready for inference.

    Args:
        architecture: one of open_clip's, such as `ViT-B-32-quickgelu`, or one of ours.
        state_dict: OpenAI's, or open_clip's own; of any floating-point type. None: the synthetic
            weights of `seed`. OpenAI's were trained with a quick approximation of GELU; where
            the extra entries of its state dict are present, QuickGELU is used under any name.
        seed: see `synthetic_weights.synthetic_weight`.
        device: where the model lives.
        precision: `float32`, or `bfloat16` (autocast) for speed where cosines may differ by 1e-3.

    Raises:
        ValueError: the architecture is unknown (the message lists similar ones) or can't be built
            without downloads, the state dict is of another model (the message names keys), or the
            precision or the seed is not a valid one.
    """
    check_precision(precision)
    check_architecture(architecture)
    state_dict, is_openai = _without_wrapping(state_dict)
    with without_root_logging(), WithoutRandomInitialisation():
        model = make_model(architecture, force_quick_gelu=is_openai)
        tokenizer = make_tokenizer(architecture)
    if state_dict is None:
        fill_with_synthetic_weights(model, seed)
    else:
        load_strictly(model, fit_to_model(model, state_dict), f"CLIP {architecture}")
    device = torch.device(device)
    return Clip(
        model.to(device).eval().requires_grad_(False),
        tokenizer,
        embedding_dim=open_clip.get_model_config(architecture)["embed_dim"],
        device=device,
        precision=precision,
    )


def image_tower(architecture: str) -> nn.Module:
    """CLIP's image tower alone, with arbitrary weights: load a state dict into it.

    Args:
        architecture: one of open_clip's, such as `ViT-B-16-quickgelu`.

    Raises:
        ValueError: the architecture is unknown or can't be built without downloads.
    """
    check_architecture(architecture)
    with without_root_logging():
        tower: nn.Module = make_model(architecture).visual
    return tower


def encode_text(model: open_clip.CLIP | open_clip.CustomTextCLIP, tokens: Tensor) -> Tensor:
    """The text tower's output [n, d], not normalised, for token ids [n, context length].

    CLIP's tower is causal and reads its result at the end mark, so positions behind the
    longest text of the batch change nothing and are left out: prompts fill a fifth of the context.
    Towers of other kinds see all of it.
    """
    if not (
        isinstance(model, open_clip.CLIP)
        and model.attn_mask is not None
        and model.text_pool_type == "argmax"
    ):
        encoded: Tensor = model.encode_text(tokens)
        return encoded
    length = int(tokens.argmax(dim=-1).max()) + 1
    tokens = tokens[:, :length]
    hidden = model.token_embedding(tokens) + model.positional_embedding[:length]
    hidden = model.transformer(hidden, attn_mask=model.attn_mask[:length, :length])
    end = tokens.argmax(dim=-1)
    pooled: Tensor = model.ln_final(hidden)[torch.arange(len(tokens), device=tokens.device), end]
    projection = model.text_projection
    if projection is None:
        return pooled
    projected: Tensor = (
        projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection
    )
    return projected


@contextmanager
def without_root_logging() -> Iterator[None]:
    """Keep open_clip from the root logger.

    It would warn there of random weights, which are assigned a line later, and its first call
    would give the application a log handler that it didn't ask for.
    """
    root = logging.getLogger()
    handler = logging.NullHandler()

    def is_not_from_open_clip(record: logging.LogRecord) -> bool:
        return "open_clip" not in record.pathname

    root.addHandler(handler)
    root.addFilter(is_not_from_open_clip)
    try:
        yield
    finally:
        root.removeFilter(is_not_from_open_clip)
        root.removeHandler(handler)


def check_architecture(architecture: str) -> None:
    """Raises ValueError unless `load_clip` can build the architecture."""
    known = known_architectures()
    if architecture not in known:
        similar = difflib.get_close_matches(architecture, known, n=5, cutoff=0.5)
        hint = f"; similar ones: {', '.join(similar)}" if similar else ""
        raise ValueError(f"unknown CLIP architecture {architecture!r}{hint}")
    text_config = open_clip.get_model_config(architecture)["text_cfg"]
    if text_config.get("hf_model_name") or text_config.get("hf_tokenizer_name"):
        raise ValueError(
            f"CLIP architecture {architecture!r} needs a text tower or tokenizer that would have "
            "to be downloaded; use one with CLIP's own tokenizer, such as 'ViT-B-32-quickgelu'"
        )


def _without_wrapping(
    state_dict: Mapping[str, Tensor] | None,
) -> tuple[dict[str, Tensor] | None, bool]:
    """The weights alone, and whether the state dict is one of OpenAI's."""
    if state_dict is None:
        return None, False
    # open_clip's training checkpoints keep the prefix of data-parallel training.
    weights = {k.removeprefix(_DATA_PARALLEL_PREFIX): v for k, v in state_dict.items()}
    extras = OPENAI_EXTRAS & weights.keys()
    return {k: v for k, v in weights.items() if k not in extras}, bool(extras)


def fit_to_model(model: nn.Module, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with the names and shapes that open_clip's model has for the same weights.

    Some models keep the text tower in a module of its own; some files have the logits' scale and
    bias as one row.
    """
    weights = dict(state_dict)
    if "positional_embedding" in weights and not hasattr(model, "positional_embedding"):
        weights = convert_to_custom_text_state_dict(weights)
    for name in ("logit_scale", "logit_bias"):
        expected = getattr(model, name, None)
        if name in weights and expected is not None and weights[name].numel() == 1:
            weights[name] = weights[name].reshape(expected.shape)
    return weights


def _height_and_width(size: int | Sequence[int]) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    height, width = size
    return height, width
