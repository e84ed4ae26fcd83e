"""Errors on values of Prefect's own settings: environment variables and profiles."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Any

from storage.errors.numbers import shown

_PREFIX = "PREFECT_"
_ANY_TEXT = frozenset(
    f"{_PREFIX}{name}" for name in ("API_URL", "API_KEY", "API_AUTH_STRING", "HOME", "PROFILE")
)


def refusal_of_value(error: Exception) -> str | None:
    """A sentence for Prefect's error on a value of its settings; None for other errors.

    Prefect reads its settings on import, which then fails with pydantic's error. pydantic is not
    imported to recognise it: where the error was raised, it has been imported already.
    """
    pydantic = sys.modules.get("pydantic_core")
    models = sys.modules.get("prefect.settings.base")
    if pydantic is None or models is None or not isinstance(error, pydantic.ValidationError):
        return None
    settings = _subclasses(models.PrefectBaseSettings)
    if error.title not in {each.__name__ for each in settings}:
        return None
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][-1]) if first["loc"] else ""
    reason = f"{first['msg'][:1].lower()}{first['msg'][1:]}"
    variable = _variable(name, first["input"])
    if variable:
        return (
            f"{variable} is {os.environ[variable]!r}: {reason}; correct the variable or unset it."
        )
    return (
        f"Prefect's setting {name} is {shown(first['input'])}: {reason}; look for it with `prefect"
        " config view`, in ~/.prefect/profiles.toml and in ./prefect.toml."
    )


def _variable(name: str, value: Any) -> str | None:
    """The environment variable that sets a setting, if one does."""
    ending = f"_{name.upper()}"
    named = [key for key in sorted(os.environ) if key.startswith(_PREFIX) and key.endswith(ending)]
    # Prefect converts some values to upper case before it checks them.
    equal = [key for key in named if os.environ[key].casefold() == str(value).casefold()]
    return next(iter(equal), None)


def _subclasses(kind: Any) -> set[Any]:
    found = set(kind.__subclasses__())
    return found.union(*(_subclasses(each) for each in found))


def may_be_refused() -> bool:
    """Whether the environment sets a variable of Prefect's that does not accept every text."""
    return any(key.startswith(_PREFIX) and key not in _ANY_TEXT for key in os.environ)


def import_prefect() -> None:
    """Import Prefect; if its settings are invalid, raise the error and print nothing.

    By itself, Prefect prints several lines of pydantic's error, and fails later.

    Raises:
        pydantic.ValidationError: see `refusal_of_value`.
    """
    if "prefect" in sys.modules:
        return
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed):
        from prefect.settings import get_current_settings

    get_current_settings()
    sys.stderr.write(printed.getvalue())
