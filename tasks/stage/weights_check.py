"""The check of a weights file or a model folder: its model, strict loading, and a prediction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.errors.exceptions import CorpusError, ImageRejected, WeightsError
from storage.files.user_files import IMAGE, read_path
from storage.images.decoding import decode
from storage.weights.registry import LOCAL_DIR
from storage.weights.state_dicts import load_state_dict
from tasks.stage.models import load_clip_model, resolve_clip

if TYPE_CHECKING:
    import torch
    from PIL import Image

# Shorter side of the input: enough to see that a model works, and fast on any machine.
_IMAGE_SIZE = 224


@dataclass(frozen=True, kw_only=True)
class WeightsDescription:
    """The result of a check of a weights file or a model folder.

    Attributes:
        model: its description, for people.
        num_tensors: number of tensors in the file.
        prediction: its prediction for the image, in one line; None without an image.
    """

    model: str
    num_tensors: int
    prediction: str | None


def describe_weights(path: Path, image: Path | None = None) -> WeightsDescription:
    """Identify the model in a file or a folder, load it strictly, and run it on an image.

    Args:
        path: of a file, see `load_state_dict`; of a folder, see `open_model_folder`.
        image: any image file that can be decoded.

    Raises:
        WeightsError: the file can't be read, is of no known model, or doesn't load strictly; the
            text names the keys.
        CorpusError: the image can't be read or decoded.
    """
    from zutis_model.checkpoints import identify_checkpoint, load_checkpoint

    pixels = None if image is None else _read(image)
    if path.is_dir():
        return _describe_folder(path, pixels)
    state_dict = load_state_dict(path)
    try:
        checkpoint = identify_checkpoint(state_dict)
    except ValueError as error:
        raise WeightsError(f"{path} is of no known model: {error}.") from error
    try:
        model = load_checkpoint(state_dict, checkpoint)
    except ValueError as error:
        raise WeightsError(
            f"{path} seems to be {checkpoint.description} but doesn't load: {error}."
        ) from error
    return WeightsDescription(
        model=checkpoint.description,
        num_tensors=len(state_dict),
        prediction=None if pixels is None else _try(model, pixels),
    )


def _describe_folder(folder: Path, pixels: Image.Image | None) -> WeightsDescription:
    config = resolve_clip(f"{LOCAL_DIR}:{folder}")
    clip = load_clip_model(config)
    kind = "CLIP" if clip.logit_bias is None else "SigLIP"
    height, width = clip.image_size
    return WeightsDescription(
        model=f"{kind} ({config.architecture}, {height} x {width} pixels,"
        f" {clip.model.context_length} tokens)",
        num_tensors=len(clip.model.state_dict()),
        prediction=None if pixels is None else _try(clip, pixels),
    )


def _read(path: Path) -> Image.Image:
    try:
        return decode(read_path(path, IMAGE)).image
    except OSError as error:
        raise CorpusError(
            f"The image {path} can't be read ({error.strerror}); check the path."
        ) from error
    except ImageRejected as error:
        raise CorpusError(
            f"The image {path} can't be used ({error.reason}); choose another."
        ) from error


def _try(model: Any, image: Image.Image) -> str:
    """Run a model on an RGB image and describe the output."""
    import torch

    from zutis_model.clip.towers import Clip
    from zutis_model.saliency.selfmask import SelfMask
    from zutis_model.zutis.network import Zutis

    if isinstance(model, Clip):
        embedding = model.embed_images(model.preprocess(image)[None])
        return f"an embedding of {embedding.shape[1]} numbers, norm {embedding.norm():.3f}"
    images = _as_input(image)
    if isinstance(model, SelfMask):
        soft, objectness = model.predict(images)
        return f"a mask over {(soft > 0.5).float().mean():.1%}, objectness {objectness[0]:.3f}"
    with torch.inference_mode():
        if isinstance(model, Zutis):
            output = model(images)
            masks = (output.mask_logits[0, -1] > 0).flatten(1).any(dim=1)
            return f"{masks.sum()} of {len(masks)} masks not empty, {_grid(output.patch_tokens)}"
        return _grid(model.encode(images))


def _as_input(image: Image.Image) -> torch.Tensor:
    """float32 [1, 3, h, w], normalised; the shorter side resized to `_IMAGE_SIZE`."""
    from torchvision.transforms.functional import pil_to_tensor, resize

    from zutis_model.layers.normalisation import normalise

    return normalise(pil_to_tensor(resize(image, [_IMAGE_SIZE]))[None])


def _grid(tokens: torch.Tensor) -> str:
    _, rows, columns, channels = tokens.shape
    return f"{rows} x {columns} tokens of {channels} numbers"
