"""Check of the activation (GELU or QuickGELU) that CLIP weights were trained with.

OpenAI's models, and some after them, were trained with QuickGELU. Their weights load into an
architecture without it, or the other way round, without complaint, and then give embeddings that
are wrong by a little. For published names the registry decides; a file is recognised by its digest.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from storage.errors.exceptions import WeightsError
from storage.weights.open_clip_configs import clip_architectures
from storage.weights.registry import ClipSpec, pinned_digests

_QUICKGELU: Final = "-quickgelu"

log = logging.getLogger(__name__)


def check_activation(spec: ClipSpec, path: Path, digest: str, recorded: Mapping[str, str]) -> None:
    """Compare a file's architecture, as a user wrote it, with the records of its digest.

    Args:
        spec: ARCHITECTURE:FILE.
        path: the file; digest: its sha256 in hex.
        recorded: names such as `ViT-B-32-quickgelu:openai` of the weights in the cache folder, by
            sha256.

    Raises:
        WeightsError: these weights were trained with the other activation.
    """
    twin = _twin(spec.architecture)
    if twin not in clip_architectures():
        return
    name = (pinned_digests() | dict(recorded)).get(digest)
    if name is None:
        _warn(spec.architecture, twin, path)
    elif name.partition(":")[0] == twin:
        with_or_without = "with" if twin.endswith(_QUICKGELU) else "without"
        raise WeightsError(
            f"{path} holds the weights {name}, which were trained {with_or_without} QuickGELU:"
            f" write {twin}:{path}."
        )


def _twin(architecture: str) -> str:
    """The same architecture with the other activation."""
    if architecture.endswith(_QUICKGELU):
        return architecture.removesuffix(_QUICKGELU)
    return architecture + _QUICKGELU


@functools.cache
def _warn(architecture: str, twin: str, path: Path) -> None:
    """Warn once per process: a build resolves its weights several times."""
    uses = "with" if architecture.endswith(_QUICKGELU) else "without"
    log.warning(
        "It is unknown whether %s was trained with QuickGELU, as OpenAI's CLIP was; it is computed "
        "%s: if that is wrong, write %s:%s.", path, uses, twin, path,
    )  # fmt: skip
