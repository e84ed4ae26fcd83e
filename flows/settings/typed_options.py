"""Which of a command's options a person typed: a recipe gives way to those, and to no default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer


def typed(context: typer.Context, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a command's values that were typed, and are no defaults."""
    return {
        name: value
        for name, value in values.items()
        if (source := context.get_parameter_source(name)) and source.name != "DEFAULT"
    }
