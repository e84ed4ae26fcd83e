"""The shipped SelfMask: its objectness is as its card says."""

from __future__ import annotations

import numpy as np
import torch

from flows.settings.build import selfmask_model
from made_world.scenes.images import corpus_image
from storage.weights.shipped import SHIPPED
from tasks.stage.models import load_selfmask_model
from zutis_model.layers.normalisation import normalise


def test_the_card_says_whether_objectness_ranks():
    network = load_selfmask_model(selfmask_model("demo", "cpu", "float32"))
    scores = []
    for number in range(6):
        pixels = torch.from_numpy(np.array(corpus_image(900, number).pixels))
        scores.append(float(network.predict(normalise(pixels.permute(2, 0, 1)[None]))[1]))
    says_not = "Objectness does not rank" in (SHIPPED["demo"].path.parent / "README.md").read_text()
    assert says_not == (max(scores) - min(scores) < 1e-3)
