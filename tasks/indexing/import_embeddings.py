"""The stage `import_embeddings`: CLIP embeddings that a user has, by the names of their images.

The files are read once, whatever the corpus; `embed_images` takes the rows from here. Each part of
it also embeds some images itself and compares, so that embeddings of another CLIP are found out.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.errors.exceptions import ConfigError, CorpusError
from storage.files.filesystems import display
from storage.given_embeddings.names import plain_name
from storage.given_embeddings.source import open_given
from storage.given_embeddings.table import NameIndex
from tasks.indexing.given_rows import NAMES, STAGE
from tasks.stage.contract import Progress
from tasks.stage.layout import EMBEDDINGS
from tasks.stage.models import ModelConfig, clip_dimension

NAME = STAGE
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Config:
    """The files.

    Attributes:
        embeddings: folder or file, as the user wrote it; not part of the key.
        fingerprint: of the files, `GivenEmbeddings.fingerprint`.
        clip: that made them, by the user's word.
    """

    embeddings: str
    fingerprint: str
    clip: ModelConfig


@dataclass(frozen=True)
class Inputs:
    """None: the files are named in the configuration."""


def _recipe(config: Config) -> Recipe:
    return Recipe(
        stage=NAME, version=VERSION, config={"files": config.fingerprint, **config.clip.identity}
    )


def locate(config: Config, inputs: Inputs, store: ArtifactStore) -> ArtifactRef:
    return ArtifactRef(NAME, _recipe(config).key())


def run(config: Config, inputs: Inputs, store: ArtifactStore, progress: Progress) -> Artifact:
    """Publish `embeddings.npy` (float16 [n, d], L2-normalised, in the order of the files) and
    `names.npy` (`NAMES`).

    The counts give the rows, those without a name, and those of which a name is another's too:
    `repeated` with the same numbers, `ambiguous` with others, which are not used. The note `digest`
    is of names and rows, whatever files they came from.

    Raises:
        ConfigError: the embeddings have another width than the CLIP's.
        CorpusError: the files have changed meanwhile, or can't be read, or an embedding is zero or
            not finite.
    """
    given = open_given(config.embeddings)
    if given.fingerprint != config.fingerprint:
        raise CorpusError(
            f"{display(given.place)} has changed since this run began: run the same command again."
        )
    names, content = NameIndex(), hashlib.sha256()
    blocks: list[NDArray[np.float16]] = []
    for block_names, rows in given.blocks():
        _check_width(rows, config)
        plain = [plain_name(name) for name in block_names]
        names.add(plain)
        blocks.append(_unit_rows(rows, given.place))
        content.update("\0".join(plain).encode("utf-8", "surrogatepass"))
        content.update(blocks[-1].tobytes())
        progress.advance(len(plain))
    every = np.concatenate(blocks)
    blocks.clear()
    digests, places = names.finished(every)
    with store.attempt(locate(config, inputs, store)) as attempt:
        for name, array in (
            (EMBEDDINGS, every),
            (NAMES, np.stack([digests, places.astype(np.uint64)])),
        ):
            with attempt.create(name) as file:
                np.lib.format.write_array(file, array, version=(1, 0), allow_pickle=False)
        return store.publish(
            attempt,
            _recipe(config),
            counts={
                "rows": len(every),
                "names": len(digests),
                "unnamed": names.unnamed,
                "repeated": names.repeated,
                "ambiguous": names.ambiguous,
            },
            notes={"digest": content.hexdigest(), "kind": given.kind},
        )


def _check_width(rows: NDArray[Any], config: Config) -> None:
    wanted = clip_dimension(config.clip)
    if wanted is not None and rows.shape[1] != wanted:
        raise ConfigError(
            f"The embeddings in {display(config.embeddings)} have {rows.shape[1]} numbers each, "
            f"and those of {config.clip.architecture} have {wanted}: name the CLIP that made them "
            "with --clip."
        )


def _unit_rows(rows: NDArray[Any], place: str) -> NDArray[np.float16]:
    """Rows [n, d] at unit length, as the index keeps them."""
    wide = rows.astype(np.float32)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or (lengths == 0).any():
        bad = int(np.flatnonzero(~np.isfinite(lengths[:, 0]) | (lengths[:, 0] == 0))[0])
        raise CorpusError(
            f"{display(place)} has an embedding that is zero or not finite (row {bad} of a block of"
            f" {len(rows)}): it is damaged, or is no file of embeddings."
        )
    unit: NDArray[np.float16] = (wide / lengths).astype(np.float16)
    return unit
