"""Example images of categories: read, and checked to be images."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from PIL import Image

from storage.errors.exceptions import ImageRejected, StorageError, VocabularyError
from storage.errors.reject_reasons import REJECT_REASONS
from storage.files.user_files import IMAGE, read_uri
from storage.images.decoding import decode


@dataclass(frozen=True)
class ExampleImage:
    """An image that shows a category.

    Attributes:
        image_id: sha256 of its bytes, which stands for it in keys.
        uri: where it is.
    """

    image_id: str
    uri: str


def find_example(category: str, uri: str) -> ExampleImage:
    """The example image at a place; `category` is the category's name, for errors.

    Raises:
        VocabularyError: nothing there can be read, or it is no usable image.
    """
    data = _read(category, uri)
    _decode(category, uri, data)
    return ExampleImage(hashlib.sha256(data).hexdigest(), uri)


def load_example(category: str, example: ExampleImage) -> Image.Image:
    """The image, RGB and upright.

    Raises:
        VocabularyError: as `find_example`, and if the file has changed since.
    """
    data = _read(category, example.uri)
    if hashlib.sha256(data).hexdigest() != example.image_id:
        raise VocabularyError(
            f"The example image {example.uri} of {category!r} has changed while the build ran: "
            "run the command again."
        )
    return _decode(category, example.uri, data)


def _read(category: str, uri: str) -> bytes:
    try:
        return read_uri(uri, IMAGE)
    except StorageError as error:
        raise VocabularyError(
            f"The example image {uri} of {category!r} can't be read ({str(error).rstrip('.')}): "
            "correct its place in the vocabulary, which is relative to the vocabulary's file."
        ) from error


def _decode(category: str, uri: str, data: bytes) -> Image.Image:
    try:
        return decode(data).image
    except ImageRejected as error:
        why = REJECT_REASONS.get(error.reason, error.reason)
        raise VocabularyError(
            f"The example image {uri} of {category!r} can't be used ({why}): give another."
        ) from error
