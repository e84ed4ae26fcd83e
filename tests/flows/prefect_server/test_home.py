"""Prefect's files if its home can't be written, and addresses that never use a proxy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flows.prefect_server import home as prefect_home
from flows.prefect_server.settings import keep_loopback_from_proxies, server_is_configured
from storage.errors.exceptions import ConfigError


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Undo changes to the environment after each test, and start without cached values."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    for name in ("PREFECT_HOME", "PREFECT_PROFILES_PATH", "PREFECT_API_URL"):
        os.environ.pop(name, None)
    monkeypatch.setattr(prefect_home.tempfile, "tempdir", str(tmp_path))
    prefect_home.temporary_home.cache_clear()
    yield
    prefect_home.temporary_home.cache_clear()


@pytest.fixture
def unwritable(tmp_path: Path) -> Path:
    """A home folder that not even root can make: a file is in its place."""
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "home"


def test_a_home_that_can_be_written_is_used(tmp_path, capsys):
    os.environ["PREFECT_HOME"] = str(tmp_path / "new" / "home")
    prefect_home.choose_prefect_home()
    assert os.environ["PREFECT_HOME"] == str(tmp_path / "new" / "home")
    assert (tmp_path / "new" / "home").is_dir()
    assert capsys.readouterr().err == ""


def test_another_folder_takes_the_place_of_one_that_cannot(unwritable, tmp_path, capsys):
    os.environ["HOME"] = str(unwritable)
    prefect_home.choose_prefect_home()
    chosen = Path(os.environ["PREFECT_HOME"])
    assert chosen.is_dir()
    assert chosen.parent == tmp_path
    said = capsys.readouterr().err
    assert said.startswith(f"Note: {unwritable}/.prefect can't be written (Not a directory)")
    assert str(chosen) in said
    assert said.count("\n") == 1


def test_a_profile_that_can_be_read_still_counts(tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    (home / "profiles.toml").write_text("")
    os.environ["PREFECT_HOME"] = str(home)

    def refuse(**_: object) -> None:
        raise PermissionError(13, "Read-only file system")

    monkeypatch.setattr(prefect_home.tempfile, "TemporaryFile", refuse)
    prefect_home.choose_prefect_home()
    assert os.environ["PREFECT_HOME"] != str(home)
    assert os.environ["PREFECT_PROFILES_PATH"] == str(home / "profiles.toml")


def test_no_folder_at_all_is_one_sentence(unwritable, monkeypatch):
    os.environ["PREFECT_HOME"] = str(unwritable)

    def refuse(**_: object) -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(prefect_home.tempfile, "mkdtemp", refuse)
    with pytest.raises(ConfigError, match="set PREFECT_HOME to a folder that can"):
        prefect_home.choose_prefect_home()


def test_a_user_without_a_home_gets_no_folder_of_that_name(monkeypatch, tmp_path, capsys):
    """A container's user without an entry in the table of users, and no HOME."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as it is for such users
    assert not server_is_configured()
    prefect_home.choose_prefect_home()
    assert Path(os.environ["PREFECT_HOME"]).is_absolute()
    assert not (tmp_path / "~").exists()
    assert "this user has no home" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "127.0.0.1,localhost,::1"),
        ("corp.example, localhost", "corp.example,localhost,127.0.0.1,::1"),
        ("*", "*"),
    ],
)
def test_loopback_goes_to_no_proxy(before, after):
    os.environ["NO_PROXY"] = before
    os.environ.pop("no_proxy", None)
    keep_loopback_from_proxies()
    keep_loopback_from_proxies()
    assert os.environ["NO_PROXY"] == after
