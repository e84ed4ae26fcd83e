"""Agreement of labels with those of similar images.

Dimensions:
    m  images
    n  labels
    d  width of CLIP's joint embedding
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

NEIGHBOURS: Final = 10
_MOST_COMPARED: Final = 20_000
"""Images that labels are compared with, so that the time grows with the labels alone."""


def neighbour_agreement(
    images: npt.NDArray[np.float32],
    image_of: npt.NDArray[np.integer],
    category_of: npt.NDArray[np.integer],
) -> npt.NDArray[np.float32]:
    """How many of the most similar labelled images have a label of the same category.

    Where there are more than 20,000 images, evenly chosen ones are compared with.

    Args:
        images: [m, d], an embedding of each; need not be of unit norm.
        image_of: [n] index of each label's image.
        category_of: [n] of each label.

    Returns:
        float32 [n] in 0..1, the share of ten images, or of all others where there are fewer; NaN
        where there is no other.
    """
    import faiss

    count = len(images)
    if count < 2:
        return np.full(len(image_of), np.nan, dtype=np.float32)
    unit = np.ascontiguousarray(images / np.linalg.norm(images, axis=1, keepdims=True))
    compared = np.unique(np.linspace(0, count - 1, min(count, _MOST_COMPARED)).astype(np.int64))
    index = faiss.IndexFlatIP(unit.shape[1])
    index.add(unit[compared])
    _, found = index.search(unit, min(NEIGHBOURS + 1, len(compared)))
    nearest = compared[found]
    has = set(zip(image_of.tolist(), category_of.tolist(), strict=True))
    shares = np.empty(len(image_of), dtype=np.float32)
    for label, (image, category) in enumerate(zip(image_of.tolist(), category_of.tolist(),
                                                  strict=True)):  # fmt: skip
        others = [each for each in nearest[image].tolist() if each != image][:NEIGHBOURS]
        shares[label] = sum((each, category) in has for each in others) / len(others)
    return shares
