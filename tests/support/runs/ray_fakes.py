"""The fakes in a Ray worker, with an embedding that records its process and waits for a signal.

`ZUTIS_TEST_TRACES` names a folder: every part that begins to embed creates a file there, named
after its process, and continues once there is a file `go`.
"""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path

from torch import Tensor

from tests.support.networks.fakes import FakeClip, FakeSelfMask

GO = "go"


class WaitingClip(FakeClip):
    """A `FakeClip` that leaves traces."""

    def embed_images(self, pixel_values: Tensor) -> Tensor:
        traces = Path(os.environ["ZUTIS_TEST_TRACES"])
        (traces / f"{os.getpid()}-{uuid.uuid4().hex}").touch()
        deadline = time.monotonic() + 400
        while not (traces / GO).exists():
            assert time.monotonic() < deadline, "no signal to go on"
            time.sleep(0.05)
        return super().embed_images(pixel_values)


def install() -> None:
    """Every network that a stage loads in this process is a fake."""
    from tasks.indexing import embed_images
    from tasks.masking import make_masks
    from tasks.retrieval import embed_text

    embed_images.load_clip_model = lambda config: WaitingClip()  # type: ignore[assignment]
    embed_text.load_clip_model = lambda config: FakeClip()  # type: ignore[assignment]
    make_masks.load_selfmask_model = lambda config: FakeSelfMask()  # type: ignore[assignment]
