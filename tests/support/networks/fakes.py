"""Tiny stand-ins for the networks, with predictable outputs.

`FakeClip` sees an image as its mean colour and reads a colour's name out of a prompt, so that
"red" retrieves red images. `FakeSelfMask` masks all pixels that differ from the image's corner.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

COLOURS = {
    "red": (1.0, 0.0, 0.0),
    "green": (0.0, 1.0, 0.0),
    "blue": (0.0, 0.0, 1.0),
    "yellow": (0.7, 0.7, 0.0),
    "grey": (0.58, 0.58, 0.58),
}


class FakeClip:
    """Embeds in colour space: float32 [n, 4]. `calls` counts images and texts."""

    embedding_dim = 4
    image_size = (8, 8)
    logit_scale = 100.0
    logit_bias: float | None = None
    preprocessing = {"size": [8, 8], "resize_mode": "shortest"}  # noqa: RUF012 - never changed

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def preprocess(self, image: Image.Image) -> Tensor:
        assert image.mode == "RGB"
        small = np.asarray(image.resize((8, 8), Image.Resampling.BOX), dtype=np.float32)
        return torch.from_numpy(small / 255.0).permute(2, 0, 1)

    def embed_images(self, pixel_values: Tensor) -> Tensor:
        self.calls["images"] += len(pixel_values)
        colours = pixel_values.mean(dim=(2, 3))
        return torch.nn.functional.normalize(_with_constant(colours), dim=-1)

    def embed_prompts(self, prompts: Sequence[str], batch_size: int = 256) -> Tensor:
        self.calls["texts"] += 1
        rows = []
        for prompt in prompts:
            named = [colour for name, colour in COLOURS.items() if name in prompt.lower()]
            rows.append(np.mean(named, axis=0) if named else _some_grey(prompt))
        return _with_constant(torch.tensor(np.stack(rows), dtype=torch.float32))

    def cut_off(self, prompt: str) -> str:
        """The words beyond this tower's context length of ten words."""
        return " ".join(prompt.split()[10:])

    @staticmethod
    def ensemble(prompt_embeddings: Tensor) -> Tensor:
        unit = torch.nn.functional.normalize(prompt_embeddings, dim=-1)
        return torch.nn.functional.normalize(unit.mean(dim=0), dim=-1)


class FakeSelfMask(torch.nn.Module):
    """Masks what differs from the image's top left corner. `calls` counts images."""

    def __init__(self) -> None:
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(1))
        self.calls: Counter[str] = Counter()

    def predict(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.calls["images"] += len(images)
        difference = (images - images[:, :, :1, :1]).abs().amax(dim=1)
        return (difference > 0.5).float() * 0.9, torch.full((len(images),), 0.75)

    def predict_several(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The same mask, then its upper half, less likely."""
        soft, objectness = self.predict(images)
        upper = soft.clone()
        upper[:, soft.shape[1] // 2 :] = 0
        return [
            (torch.stack(both), score * torch.tensor([1.0, 0.8]))
            for *both, score in zip(soft, upper, objectness, strict=True)
        ]


def _some_grey(text: str) -> np.ndarray:
    """Embedding of words without a colour: nearly the same for all, but not quite."""
    return 0.3 + np.frombuffer(hashlib.sha256(text.encode()).digest()[:3], np.uint8) * 1e-6


def _with_constant(colours: Tensor) -> Tensor:
    return torch.cat([colours, torch.full((len(colours), 1), 0.1)], dim=1)
