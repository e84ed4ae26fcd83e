"""What users name as `--embeddings`, opened: files of embeddings of one kind.

Dimensions:
    n  images of a block
    d  width of an embedding
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from numpy.typing import NDArray

from storage.artifacts.fingerprints import digest
from storage.errors.exceptions import ConfigError, CorpusError
from storage.files.filesystems import display
from storage.files.user_files import is_file, is_folder, user_path
from storage.given_embeddings import clip_retrieval, pickles

_PICKLES: Final = (".pkl", ".pickle")
_AUTHORS_NAME = re.compile(r"filename_to_(.+?)(?:_(?:train|val|test))?_img_embedding")

Kind = Literal["clip-retrieval", "pickle"]


@dataclass(frozen=True)
class GivenEmbeddings:
    """Embeddings that a user has.

    Attributes:
        place: as the user wrote it.
        kind: of its files.
        files: all of them, in the order in which they are read.
        model: the CLIP that made them, as far as a file's name tells; '' if none does.
    """

    place: str
    kind: Kind
    files: tuple[Path, ...]
    model: str = ""

    @property
    def fingerprint(self) -> str:
        """Digest of the files' names, sizes and times of change; changes where they may have."""
        facts = [
            (path.name, (status := path.stat()).st_size, status.st_mtime_ns) for path in self.files
        ]
        return digest({"kind": self.kind, "files": facts})

    def blocks(self) -> Iterator[tuple[list[str], NDArray[Any]]]:
        """Names of images ('' where there is none) and rows [n, d] of floating-point numbers.

        Raises:
            CorpusError: a file is damaged, or no such file.
        """
        if self.kind == "pickle":
            for path in self.files:
                yield from pickles.blocks_of(path)
            return
        for embeddings, metadata in zip(self.files[::2], self.files[1::2], strict=True):
            yield from clip_retrieval.blocks_of(clip_retrieval.Pair(embeddings, metadata))

    def check_model(self, architecture: str) -> None:
        """Check that the files don't say that they are another CLIP's.

        Raises:
            ConfigError: they do.
        """
        if self.model and _bare(self.model) != _bare(architecture):
            raise ConfigError(
                f"{display(self.place)} has embeddings of {self.model}, by its name, and --clip is "
                f"{architecture}: name the CLIP that made them."
            )


def open_given(place: str) -> GivenEmbeddings:
    """Find the files of embeddings in a folder, or take a single pickle.

    Raises:
        CorpusError: there are none.
    """
    path = user_path(place)
    if is_file(path) and path.suffix in _PICKLES:
        return GivenEmbeddings(place, "pickle", (path,), _model_of([path]))
    if not is_folder(path):
        raise CorpusError(
            f"There are no embeddings at {display(place)}: name a folder on this machine with "
            "img_emb and metadata, as clip-retrieval writes it, or with pickles such as "
            "filename_to_ViT_L_14_336px_img_embedding.pkl."
        )
    if is_folder(path / clip_retrieval.EMBEDDINGS_FOLDER):
        pairs = clip_retrieval.pairs_of(path)
        files = [file for pair in pairs for file in (pair.embeddings, pair.metadata)]
        return GivenEmbeddings(place, "clip-retrieval", tuple(files))
    found = sorted(file for file in path.iterdir() if file.suffix in _PICKLES and is_file(file))
    if not found:
        raise CorpusError(
            f"{display(place)} has no embeddings: there is neither a folder img_emb, as "
            "clip-retrieval writes it, nor a pickle."
        )
    return GivenEmbeddings(place, "pickle", tuple(found), _model_of(found))


def _model_of(paths: list[Path]) -> str:
    """The model that all names of pickles agree on."""
    named = {match[1] for path in paths if (match := _AUTHORS_NAME.search(path.name))}
    return named.pop() if len(named) == 1 else ""


def _bare(model: str) -> str:
    """A model's name without what the two ways of writing it differ by."""
    plain = re.sub(r"[^a-z0-9]", "", model.casefold())
    return plain.removesuffix("quickgelu").removesuffix("px")
