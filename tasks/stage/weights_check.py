"""What `zutis weights check` finds out about a file or a model's folder: which model it is, whether
it loads, and what it does."""

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

# Of the picture's shorter side: enough to see that a model works, and quick on any machine.
_IMAGE_SIZE = 224


@dataclass(frozen=True, kw_only=True)
class WeightsDescription:
    """A file of weights, or a folder, that holds a whole model.

    Attributes:
        model: which, for people.
        num_tensors: in the file.
        prediction: what it made of the picture, one line; None without a picture.
    """

    model: str
    num_tensors: int
    prediction: str | None


def describe_weights(path: Path, picture: Path | None = None) -> WeightsDescription:
    """Find out which model a file or a folder holds, load it strictly, and try it on a picture.

    Args:
        path: of a file, see `load_state_dict`; of a folder, see `open_model_folder`.
        picture: any image file that can be decoded.

    Raises:
        WeightsError: the file can't be read, is of no known model, or doesn't load strictly; the
            text names the keys.
        CorpusError: the picture can't be read or decoded.
    """
    from zutis_model.checkpoints import identify_checkpoint, load_checkpoint

    image = None if picture is None else _read(picture)
    if path.is_dir():
        return _describe_folder(path, image)
    state_dict = load_state_dict(path)
    try:
        checkpoint = identify_checkpoint(state_dict)
    except ValueError as error:
        raise WeightsError(f"{path} is of no model that is known here: {error}.") from error
    try:
        model = load_checkpoint(state_dict, checkpoint)
    except ValueError as error:
        raise WeightsError(
            f"{path} looks like {checkpoint.description} but doesn't load: {error}."
        ) from error
    return WeightsDescription(
        model=checkpoint.description,
        num_tensors=len(state_dict),
        prediction=None if image is None else _try(model, image),
    )


def _describe_folder(folder: Path, image: Image.Image | None) -> WeightsDescription:
    config = resolve_clip(f"{LOCAL_DIR}:{folder}")
    clip = load_clip_model(config)
    kind = "CLIP" if clip.logit_bias is None else "SigLIP"
    height, width = clip.image_size
    return WeightsDescription(
        model=f"{kind} ({config.architecture}, {height} x {width} pixels,"
        f" {clip.model.context_length} tokens)",
        num_tensors=len(clip.model.state_dict()),
        prediction=None if image is None else _try(clip, image),
    )


def _read(picture: Path) -> Image.Image:
    try:
        return decode(read_path(picture, IMAGE)).image
    except OSError as error:
        raise CorpusError(
            f"The picture {picture} can't be read ({error.strerror}); check the path."
        ) from error
    except ImageRejected as error:
        raise CorpusError(
            f"The picture {picture} can't be used ({error.reason}); choose another."
        ) from error


def _try(model: Any, image: Image.Image) -> str:
    """Run a model on an RGB image, and say what came out."""
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
    """float32 [1, 3, h, w], normalised; the shorter side brought to `_IMAGE_SIZE`."""
    from torchvision.transforms.functional import pil_to_tensor, resize

    from zutis_model.layers.normalisation import normalise

    return normalise(pil_to_tensor(resize(image, [_IMAGE_SIZE]))[None])


def _grid(tokens: torch.Tensor) -> str:
    _, rows, columns, channels = tokens.shape
    return f"{rows} x {columns} tokens of {channels} numbers"
