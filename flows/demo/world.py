"""The demonstration's images on disk: corpus, annotated scenes, vocabularies."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from flows.demo.settings import LONGER_VOCABULARY_FILE, VOCABULARY_FILE, DemoSize
from made_world.corpus import Mask, read_ground_truth, write_corpus, write_scenes
from made_world.things.kinds import KINDS
from storage.errors.exceptions import ConfigError

ONE_MORE: Final = "red heart"
"""A category that is not a kind of its own but a part of one, which CLIP can retrieve as well."""

_RECORD: Final = "world.json"


@dataclass(frozen=True)
class DemoWorld:
    """A folder with the demonstration's input.

    Attributes:
        folder: of the world.
        made: this run wrote it; otherwise an earlier one did.
    """

    folder: Path
    made: bool

    @property
    def vocabulary(self) -> Path:
        """The kinds' names, one a line."""
        return self.folder / VOCABULARY_FILE

    @property
    def longer_vocabulary(self) -> Path:
        """The same names and one more."""
        return self.folder / LONGER_VOCABULARY_FILE

    def truth(self) -> dict[str, list[tuple[str, Mask]]]:
        """(kind, visible mask) of each object, by the image's file name; for scoring only."""
        return read_ground_truth(self.folder / "corpus")


def make_world(folder: Path, size: DemoSize) -> DemoWorld:
    """Write the world, unless an earlier run has written it.

    Raises:
        ConfigError: the folder has a world of another size, or can't be written.
    """
    record = {
        "pictures": size.images,
        "scenes": size.scenes,
        "seeds": [size.corpus_seed, size.scene_seed],
        "zutis": version("zutis"),
    }
    if (found := _recorded(folder)) is not None:
        if found != record:
            raise ConfigError(
                f"{folder} has the images of another demonstration ({size.name} wanted); choose"
                " another --folder, or delete it."
            )
        return DemoWorld(folder, made=False)
    world = DemoWorld(folder, made=True)
    try:
        write_corpus(folder / "corpus", size.corpus_seed, size.images)
        write_scenes(folder / "scenes", size.scene_seed, size.scenes)
        world.vocabulary.write_text("\n".join(KINDS) + "\n", encoding="utf-8")
        world.longer_vocabulary.write_text("\n".join((*KINDS, ONE_MORE)) + "\n", encoding="utf-8")
        # Last: a world without it is written again.
        (folder / _RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{folder} can't be written ({error.strerror}); choose another --folder."
        ) from error
    return world


def _recorded(folder: Path) -> object:
    try:
        found: object = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found
