"""Building networks without random initialisation, and strict loading of checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import init
from torch.overrides import TorchFunctionMode

# The functions of `nn.init` that announce themselves; the others end in the tensor's methods.
_RANDOM_FILLS = frozenset(
    {Tensor.normal_, Tensor.uniform_, init.normal_, init.uniform_, init.kaiming_uniform_}
)
_KEYS_SHOWN = 3


class WithoutRandomInitialisation(TorchFunctionMode):
    """Inside this context, filling a tensor with random numbers does nothing.

    A network of 150 million parameters takes seconds to initialise, all of it for weights that a
    checkpoint then overwrites. Parameters are left with arbitrary content, so each must be
    assigned afterwards. All that isn't random (attention masks, running statistics, zeros and
    ones) is computed as usual, which building on the meta device wouldn't do.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _RANDOM_FILLS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def load_strictly(module: nn.Module, state_dict: Mapping[str, Tensor], model_name: str) -> None:
    """Copy a checkpoint into `module`; names and shapes must all agree.

    Args:
        module: receives the weights, in place, in its own types and on its own devices.
        state_dict: name to tensor, of any floating-point type.
        model_name: how the error calls the model.

    Raises:
        ValueError: keys are missing, unexpected or of another shape; the message names the
            first of them. `module` is then unchanged.
    """
    expected = module.state_dict()
    problems = [
        _problem("missing", [k for k in expected if k not in state_dict]),
        _problem("unexpected", [k for k in state_dict if k not in expected]),
        _problem(
            "of another shape",
            [
                f"{k} {list(state_dict[k].shape)} instead of {list(v.shape)}"
                for k, v in expected.items()
                if k in state_dict and state_dict[k].shape != v.shape
            ],
        ),
    ]
    found = "; ".join(problem for problem in problems if problem)
    if found:
        raise ValueError(f"the state dict is not one of {model_name}: {found}")
    with torch.no_grad():
        module.load_state_dict(dict(state_dict), strict=True)


def _problem(what: str, keys: list[str]) -> str:
    if not keys:
        return ""
    more = f" and {len(keys) - _KEYS_SHOWN} more" if len(keys) > _KEYS_SHOWN else ""
    return f"{len(keys)} {what} ({', '.join(keys[:_KEYS_SHOWN])}{more})"
