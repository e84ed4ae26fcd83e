"""Reading users' YAML files as plain values, with one kind of error for all faults.

Aliases are refused: they can multiply a few hundred bytes without end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import yaml


class _PlainLoader(yaml.SafeLoader):
    """Plain values alone."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        parser: Any = self
        if parser.check_event(yaml.AliasEvent):
            event = parser.peek_event()
            raise yaml.composer.ComposerError(
                None, None, f"the alias *{event.anchor} is not read; write out what it stands for",
                event.start_mark,
            )  # fmt: skip
        return super().compose_node(parent, index)


def load_plain_yaml(text: str) -> Any:
    """The document's values.

    Raises:
        yaml.YAMLError: it is no YAML, has aliases, is nested too deeply, or has values that can't
            be, such as integers of thousands of digits.
    """
    return _guarded(text, lambda loader: loader.get_single_data())


def compose_plain_yaml(text: str) -> yaml.Node | None:
    """The document's nodes, which know their lines; None for an empty one.

    Raises:
        yaml.YAMLError: as `load_plain_yaml`, as far as composing finds it.
    """
    node: yaml.Node | None = _guarded(text, lambda loader: loader.get_single_node())
    return node


def _guarded(text: str, parse: Callable[[Any], Any]) -> Any:
    loader: Any = None
    try:
        loader = _PlainLoader(text)
        return parse(loader)
    except RecursionError as error:
        raise yaml.YAMLError("it is nested too deeply") from error
    except (ValueError, OverflowError) as error:  # such as dates of month 13
        raise yaml.YAMLError(str(error).partition("\n")[0]) from error
    finally:
        if loader is not None:
            loader.dispose()
