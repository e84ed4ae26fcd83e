"""Commands from settings classes: their options, `--config` files, and `--set`."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from cyclopts import Group as Heading
from cyclopts import Parameter, Token

from flows.settings.mistakes import literal_values, wrong_choice
from flows.settings.named_values import read_config, read_values
from flows.settings.options import Group, Option, Settings, options_of
from storage.errors.exceptions import ConfigError
from storage.files.filesystems import utf8_place

_Settings = TypeVar("_Settings", bound=Settings)

_HEADINGS = {group: Heading(group.value, sort_key=number) for number, group in enumerate(Group, 1)}


def command_of(
    kind: type[_Settings], *, positional: str | Sequence[str] = (), takes_values: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a command of a function that takes settings.

    Options on the command line override `--set`, which overrides the file of `--config`, which
    overrides the defaults.

    Args:
        kind: the settings; each of their fields is an option.
        positional: a field that is given without a flag, or several in their order.
        takes_values: the function takes the values of `--set` as its second argument, instead of
            having them applied to its options.

    Returns:
        A decorator; the command has the function's documentation.
    """

    places = [positional] if isinstance(positional, str) else list(positional)

    def decorate(action: Callable[..., None]) -> Callable[..., None]:
        def command(*words: Any, **given: Any) -> None:
            given |= dict(zip(places, words, strict=False))
            config, more = given.pop("config", ""), given.pop("set", [])
            typed = {name: _value(options[name], value) for name, value in given.items()}
            values = read_values(more)
            in_file = read_config(config) if config else {}
            if takes_values:
                action(kind(**{**in_file, **typed}), values)
            else:
                action(kind(**{**in_file, **values, **typed}))

        options = {option.name: option for option in options_of(kind)}
        command.__name__, command.__doc__ = action.__name__, action.__doc__
        command.__module__ = action.__module__
        # Those without a flag first, in their order: others can't stand before them.
        in_order = sorted(options.values(), key=lambda each: each.name not in places)
        command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [*(_parameter(each, each.name in places) for each in in_order), *_COMMON]
        )
        return command

    return decorate


def _parameter(option: Option, positional: bool) -> inspect.Parameter:
    """The option as cyclopts takes it. Pydantic checks the value; cyclopts only splits words."""
    kinds = inspect.Parameter
    place = kinds.POSITIONAL_OR_KEYWORD if positional else kinds.KEYWORD_ONLY
    needed = " [required]" if option.required else ""
    silent = (None, "", ())
    shown = option.default not in silent and not isinstance(option.default, bool | Settings)
    kind = _bare(option.annotation)
    form = Parameter(
        name=option.flag,
        help=option.help + needed,
        group=_HEADINGS[option.group],
        show_default=(lambda _: _shown(option.default)) if shown else False,
        negative_bool="no-" if option.default else (),
        negative_iterable=(),
        negative_none=(),
        allow_repeating=True,
        required=False,
        converter=_chosen(option) if get_origin(kind) is Literal else None,
        metavar=_metavar(kind),
    )
    annotation: Any = Annotated[(_type_of(option) | None, form)]
    return inspect.Parameter(option.name, place, annotation=annotation, default=None)


def _type_of(option: Option) -> Any:
    """The option's parameters for cyclopts: flags, choices, numbers of values, repetition."""
    kind = _bare(option.annotation)
    if _settings_class(kind) or _is_several(kind):
        return list[str]
    if get_origin(kind) is Literal:
        return Literal[tuple(value for value in literal_values(kind) if value != "")]
    if get_origin(kind) is tuple:
        return tuple[tuple(_bare(each) for each in get_args(kind))]  # type: ignore[misc]
    return kind if kind is bool else str


def _unmarked(annotation: Any) -> Any:
    """An annotation without metadata."""
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _bare(annotation: Any) -> Any:
    """An annotation without metadata and without None."""
    annotation = _unmarked(annotation)
    others = [each for each in get_args(annotation) if each is not type(None)]
    if type(None) in get_args(annotation) and len(others) == 1:
        return _bare(others[0])
    return annotation


def _shown(default: Any) -> str:
    return ", ".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _chosen(option: Option) -> Callable[[Any, Sequence[Token]], str]:
    """The typed word if it is one of the option's choices; cyclopts' own error would be long."""

    def convert(_: Any, tokens: Sequence[Token]) -> str:
        word = tokens[-1].value
        if word not in literal_values(option.annotation):
            raise ConfigError(wrong_choice(option.name, word, option.annotation))
        return word

    return convert


def _metavar(kind: Any) -> str | None:
    return {int: "INT", float: "FLOAT"}.get(kind)


def _is_several(kind: Any) -> bool:
    return get_origin(kind) is tuple and get_args(kind)[1:] == (...,)


def _settings_class(kind: Any) -> type[Settings] | None:
    return kind if isinstance(kind, type) and issubclass(kind, Settings) else None


def _value(option: Option, typed: Any) -> Any:
    """The typed words in the form that pydantic takes."""
    kind = _bare(option.annotation)
    if _settings_class(kind):
        return read_values(typed)
    if _is_several(kind):
        return tuple(map(utf8_place, typed))
    if kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(typed)
    if typed == "none" and type(None) in get_args(_unmarked(option.annotation)):
        return None
    if any(get_origin(each) is dict for each in get_args(kind)):
        return read_values([f"{option.name}={typed}"])[option.name]
    return typed


_COMMON = (
    inspect.Parameter(
        "config",
        inspect.Parameter.KEYWORD_ONLY,
        default="",
        annotation=Annotated[
            str,
            Parameter(
                name="--config",
                help="YAML file of these options, NAME: VALUE a line; what is typed wins over it.",
                group=_HEADINGS[Group.ADVANCED],
                show_default=False,
            ),
        ],
    ),
    inspect.Parameter(
        "set",
        inspect.Parameter.KEYWORD_ONLY,
        default=(),
        annotation=Annotated[
            list[str],
            Parameter(
                name="--set",
                help="Any option as NAME=VALUE, the value in YAML; may be repeated.",
                group=_HEADINGS[Group.ADVANCED],
                show_default=False,
                negative_iterable=(),
            ),
        ],
    ),
)
