import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from zutis_model.layers.compilation import compiled

ROOM = Path(__file__).parents[3] / "zutis_model" / "layers"


@compiled
def fused_if_careless(a, b, c):
    return a * b + c


@compiled
def quotient(a, b):
    return a / b


def test_arithmetic_is_strict():
    # Fused, the product's rounding error would be left over.
    a = 1.0 + 2.0**-30
    assert fused_if_careless(a, a, -(a * a)) == 0.0


def test_division_by_zero_is_that_of_numpy():
    assert quotient(1.0, 0.0) == np.inf
    assert np.isnan(quotient(0.0, 0.0))


@pytest.mark.parametrize("home", ["writable", "unwritable"])
def test_works_where_the_package_cannot_be_written(home, tmp_path):
    room = tmp_path / "zutis_model" / "layers"
    room.mkdir(parents=True)
    shutil.copy(ROOM / "compilation.py", room)
    (room / "trial.py").write_text(
        "from zutis_model.layers.compilation import compiled\n\n\n"
        "@compiled\ndef double(x):\n    return 2.0 * x\n"
    )
    for package in (room.parent, room):
        (package / "__init__.py").touch()
    (room / "__pycache__").touch()  # a file, so that no folder can be made, even by root
    cache = tmp_path / "cache"
    if home == "unwritable":
        cache.touch()
    environment = dict(os.environ) | {"XDG_CACHE_HOME": str(cache), "HOME": str(cache)}
    environment.pop("NUMBA_CACHE_DIR", None)
    code = "from zutis_model.layers.trial import double; print(double(21.0))"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout.strip()) == (0, "42.0"), ended.stderr
    if home == "writable" and sys.platform == "linux":
        assert list(cache.rglob("*.nbc"))
