from __future__ import annotations

import pytest

from storage.corpora.listing import TAR
from storage.corpora.selection import ALL, Selection
from storage.errors.exceptions import ConfigError


@pytest.mark.parametrize(
    ("pattern", "fits", "others"),
    [
        ("*.png", ["a.png", "x/y/a.png"], ["a.PNG", "a.jpg"]),
        ("./x/*", ["x/a.jpg", "x/y/a.jpg", "./x/a.jpg"], ["y/x/a.jpg", "x"]),
        ("x", ["x", "x/a.jpg", "x/y/a.jpg"], ["xx/a.jpg", "y/x/a.jpg"]),
        ("x/", ["x/a.jpg"], ["xx/a.jpg"]),
        ("**/x", ["x/a.jpg", "y/x/a.jpg"], ["y/xx/a.jpg"]),
        ("x/**/a.jpg", ["x/a.jpg", "x/y/z/a.jpg"], ["x/b.jpg"]),
        ("a[0-9].jpg", ["a1.jpg"], ["a.jpg", "ab.jpg"]),
        ("a\nb*", ["a\nb.jpg", "a\nb\n.jpg"], ["a"]),
    ],
)
def test_matches_of_patterns(pattern, fits, others):
    included, excluded = Selection.of([pattern], []), Selection.of([], [pattern])
    for name in fits + others:
        assert included.takes(name) == (name in fits)
        assert excluded.takes(name) != (name in fits)


def test_excludes_win_over_includes():
    selection = Selection.of(["*.jpg", "*.png"], ["x/*"])
    names = ["a.jpg", "b.png", "c.gif", "x/a.jpg"]
    assert [name for name in names if selection.takes(name)] == ["a.jpg", "b.png"]
    assert all(map(ALL.takes, names))


def test_only_excludes_apply_to_tars():
    selection = Selection.of(["*.jpg"], ["old/*"])
    assert selection.takes("a.tar", TAR)
    assert not selection.takes("old/a.tar", TAR)


def test_patterns_in_any_order_are_equal():
    assert Selection.of(["./b", "a/", "b"], []) == Selection.of(["a", "b"], [])


@pytest.mark.parametrize("pattern", ["", "./", ".", "/"])
def test_empty_patterns_are_refused(pattern):
    with pytest.raises(ConfigError, match=r"pattern of --exclude is empty"):
        Selection.of([], [pattern])
