"""Settings classes: each option is declared in one of them, and nowhere else.

A field of a settings class is an option: its annotation has the type, the bounds and the group that
it is listed in, its value is the default, and the text below it is its help. From that come

- the option on the command line and in `--config` files (`flows.commands.options`),
- the parameter of the flow and its place in the run form (`with_parameters_of`),
- the field of a stage's configuration that has the same name (`values_for`),
- its row in docs/options.md.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo

from flows.settings.mistakes import flag, refuse_other_bytes, sentence_of
from storage.errors.exceptions import ConfigError

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Part = TypeVar("_Part", bound="Settings")


class Group(StrEnum):
    """Headings of options, in the order of the help: what everybody needs first, experts' last."""

    MAIN = "Main options"
    CORPUS = "Corpus"
    RETRIEVAL = "Retrieval"
    MASKS = "Masks"
    QUALITY = "Quality of labels"
    DECISIONS = "Decisions"
    ALIKE = "Near-duplicates and leaks"
    SHARDS = "Shards"
    NETWORK = "Network"
    LOSSES = "Losses and optimiser"
    SAMPLES = "Training samples"
    CATEGORIES = "Categories"
    INSTANCES = "Instances"
    OUTPUT = "Output"
    NEXT = "What follows"
    MACHINE = "Machine"
    ADVANCED = "Advanced"


class Settings(BaseModel):
    """What a command or a flow is told. Frozen; text is UTF-8, numbers are finite.

    Raises:
        ConfigError: a name that there is not, or a value that can't be; one sentence.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    subject: ClassVar[str] = "command"
    """What the settings are of, for errors."""

    @model_validator(mode="wrap")
    @classmethod
    def _explain(cls, given: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if isinstance(given, Mapping):
            refuse_other_bytes(given)
        try:
            return handler(given)
        except ValidationError as error:
            raise ConfigError(sentence_of(error, cls.subject, cls.model_fields)) from error


@dataclasses.dataclass(frozen=True)
class Option:
    """A field of a settings class.

    Attributes:
        name: of the field; the option is `--a-name` for `a_name`.
        annotation: type, with the metadata that pydantic keeps apart put back.
        default: None also for what is required.
        required: whether there is no default.
        help: a sentence or two.
        group: heading that it is listed under.
    """

    name: str
    annotation: Any
    default: Any
    required: bool
    help: str
    group: Group

    @property
    def flag(self) -> str:
        return flag(self.name)


def options_of(kind: type[Settings]) -> list[Option]:
    """The options of a settings class: by group; in it required ones, then the class's own."""
    groups, fields = list(Group), list(kind.model_fields)  # those that are shared come first there
    own_first = [name for base in kind.__mro__ for name in inspect.get_annotations(base)]

    def place(option: Option) -> tuple[int, bool, int]:
        declared = fields if option.required else own_first
        return groups.index(option.group), not option.required, declared.index(option.name)

    return sorted((_option(name, field) for name, field in kind.model_fields.items()), key=place)


def _option(name: str, field: FieldInfo) -> Option:
    groups = [each for each in field.metadata if isinstance(each, Group)]
    others = [each for each in field.metadata if not isinstance(each, Group)]
    return Option(
        name=name,
        annotation=Annotated[(field.annotation, *others)] if others else field.annotation,
        default=None if field.is_required() else field.get_default(call_default_factory=True),
        required=field.is_required(),
        help=" ".join((field.description or "").split()),
        group=groups[-1] if groups else Group.ADVANCED,
    )


def values_for(target: Any, settings: Settings, *others: str) -> dict[str, Any]:
    """The settings of those fields that a dataclass has by the same names.

    Args:
        target: a dataclass, such as a stage's `Config`.
        settings: whose values are taken.
        others: fields that are left out, since the caller sets them.
    """
    known = type(settings).model_fields
    return {
        field.name: getattr(settings, field.name)
        for field in dataclasses.fields(target)
        if field.name not in others and field.name in known
    }


def with_parameters_of(kind: type[Settings]) -> Callable[[_Function], _Function]:
    """Give a function `f(**parameters)` the signature and the documentation of a settings class.

    Prefect makes the parameters of a flow and its run form out of these.
    """

    def decorate(function: _Function) -> _Function:
        options = sorted(options_of(kind), key=lambda option: not option.required)
        documented = function.__doc__ or ""
        before, separator, after = documented.partition("\n    Returns:")
        rows = "\n".join(f"        {option.name}: {option.help}" for option in options)
        function.__doc__ = f"{before.rstrip()}\n\n    Args:\n{rows}\n{separator}{after}"
        function.__annotations__ = {
            **{option.name: option.annotation for option in options},
            "return": inspect.signature(function, eval_str=True).return_annotation,
        }
        function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [
                inspect.Parameter(
                    option.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    annotation=option.annotation,
                    default=inspect.Parameter.empty if option.required else option.default,
                )
                for option in options
            ],
            return_annotation=function.__annotations__["return"],
        )
        return function

    return decorate


def given_by(kind: type[Settings], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Those parameters that are not at their defaults: run forms can't tell one from a choice."""
    defaults = {option.name: option.default for option in options_of(kind) if not option.required}
    return {
        name: value
        for name, value in parameters.items()
        if name not in defaults or value != defaults[name]
    }


def part_of(kind: type[_Part], settings: Settings) -> _Part:
    """Those of the settings that another class declares, as one of it; what was given stays so."""
    given = settings.model_fields_set & kind.model_fields.keys()
    return kind(**{name: getattr(settings, name) for name in given})


def changed(settings: _Part, **values: Any) -> _Part:
    """The same settings but for these, checked as all are."""
    return type(settings)(**{**dict(settings), **values})
