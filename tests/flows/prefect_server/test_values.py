"""Settings that Prefect refuses give one sentence, although it fails on import."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from flows.prefect_server.values import refusal_of_value
from storage.errors.exceptions import ConfigError
from tests.support.processes.nursery import run_zutis

ROOT = Path(__file__).parents[3]
_ASK = (
    "import sys\n"
    "from flows.cli import exit_code_of\n"
    "def command():\n"
    "    from flows.prefect_server.settings import prepare_prefect\n"
    "    prepare_prefect()\n"
    "sys.exit(exit_code_of(command))\n"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PREFECT_LOGGING_LEVEL", "", "PREFECT_LOGGING_LEVEL is '': input should be 'DEBUG'"),
        ("PREFECT_LOGGING_LEVEL", "loud", "PREFECT_LOGGING_LEVEL is 'loud': input should be"),
        ("PREFECT_SERVER_API_PORT", "x", "PREFECT_SERVER_API_PORT is 'x': input should be a valid"),
    ],
)
def test_a_variable_that_prefect_refuses(name: str, value: str, words: str, tmp_path) -> None:
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), name: value}
    done = run_zutis([], ROOT, env, timeout=120, code=_ASK)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"Error: {words}")
    assert done.stderr.rstrip().endswith("correct the variable or unset it.")
    assert done.stderr.count("\n") == 1, "Prefect's own lines are not printed"


def test_errors_of_our_own_settings_are_none_of_prefect() -> None:
    from flows.settings.training import TrainingSettings

    with pytest.raises(ConfigError, match="iterations") as caught:
        TrainingSettings(iterations=0)
    assert refusal_of_value(caught.value) is None
    cause = caught.value.__cause__
    assert isinstance(cause, ValidationError)
    assert refusal_of_value(cause) is None
    assert refusal_of_value(ValueError("x")) is None
