"""The demonstration's images on disk: written once, then reused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flows.demo.settings import QUICK
from flows.demo.world import ONE_MORE, make_world
from made_world.things.kinds import KINDS
from storage.errors.exceptions import ConfigError
from storage.evaluation_sets.opening import open_evaluation_set
from storage.vocabularies.vocabulary import load_vocabulary

TINY = replace(QUICK, images=5, scenes=2)


def test_a_world_is_written_once(tmp_path):
    world = make_world(tmp_path / "demo", TINY)
    assert world.made
    images = sorted((world.folder / "corpus" / "pictures").iterdir())
    assert len(images) == 5
    assert len(world.truth()) == 5
    before = {path: path.stat().st_mtime_ns for path in images}
    again = make_world(tmp_path / "demo", TINY)
    assert not again.made
    assert {path: path.stat().st_mtime_ns for path in images} == before


def test_what_was_interrupted_is_written_again(tmp_path):
    world = make_world(tmp_path, TINY)
    (tmp_path / "world.json").unlink()
    assert make_world(tmp_path, TINY).made
    assert len(world.truth()) == 5


def test_another_size_wants_another_folder(tmp_path):
    make_world(tmp_path, TINY)
    with pytest.raises(ConfigError, match="another --folder"):
        make_world(tmp_path, replace(TINY, images=6))


def test_a_folder_that_cant_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="can't be written"):
        make_world(tmp_path / "file" / "demo", TINY)


def test_the_flows_can_read_it(tmp_path):
    world = make_world(tmp_path, TINY)
    assert load_vocabulary(str(world.vocabulary)).names == KINDS
    assert load_vocabulary(str(world.longer_vocabulary)).names == (*KINDS, ONE_MORE)
    settings = TINY.evaluation_settings(tmp_path)
    scenes = open_evaluation_set(settings.on, None)
    assert len(scenes.images) == 2
    assert tuple(scenes.categories) == KINDS
