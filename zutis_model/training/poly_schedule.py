"""Polynomial decay of learning rates (Chen et al. 2017, DeepLab), with the reference's floor.

ZUTIS trains its encoder at a tenth of the rate of the rest; every parameter group decays from a
rate of its own to the same floor.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR

POWER = 0.9
MINIMUM = 1e-6


def poly_learning_rate(
    step: int, max_steps: int, base: float, power: float = POWER, minimum: float = MINIMUM
) -> float:
    """`base * (1 - step / max_steps) ** power`, but at least `minimum`.

    Args:
        step: scheduler steps taken so far, at least 0; beyond `max_steps` the rate is `minimum`.
        max_steps: at which the decay would reach 0; at least 1.
        base: rate at step 0, above 0. One below `minimum` is raised to it from the start, as in
            the reference.
        power: of the decay, above 0.
        minimum: floor, at least 0.

    Raises:
        ValueError: an argument is outside its range.
    """
    if step < 0:
        raise ValueError(f"step must be at least 0, got {step}")
    _check_schedule(max_steps, power, minimum)
    if not base > 0:
        raise ValueError(f"base must be above 0, got {base}")
    remaining = max(0.0, 1.0 - step / max_steps)
    return max(base * math.pow(remaining, power), minimum)


class PolySchedule(LambdaLR):
    """`poly_learning_rate` for each parameter group of an optimiser; call `step` after its step.

    A resumed schedule goes on exactly. Its state holds steps and base rates; `max_steps`, `power`
    and `minimum` are those of the constructor.

    Args:
        optimiser: its groups' rates are the bases, each above 0. If it was resumed, they are the
            rates it started with.
        max_steps: see `poly_learning_rate`.
        power: likewise.
        minimum: likewise.

    Raises:
        ValueError: an argument or a group's rate is outside its range.
    """

    def __init__(
        self,
        optimiser: torch.optim.Optimizer,
        max_steps: int,
        power: float = POWER,
        minimum: float = MINIMUM,
    ) -> None:
        _check_schedule(max_steps, power, minimum)
        bases = [group.get("initial_lr", group["lr"]) for group in optimiser.param_groups]
        for index, base in enumerate(bases):
            if not base > 0:
                raise ValueError(f"the rate of group {index} must be above 0, got {base}")
        factor = partial(_factor, max_steps=max_steps, power=power, minimum=minimum)
        super().__init__(optimiser, [partial(factor, base=base) for base in bases])

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume; the optimiser may be resumed before or after this."""
        super().load_state_dict(state_dict)
        # The constructor set the rates of step 0. torch leaves them until the next step, which
        # is one optimiser step too late if the optimiser was resumed before it was called.
        for group, rate in zip(self.optimizer.param_groups, self.get_last_lr(), strict=True):
            group["lr"] = rate


def _factor(step: int, *, base: float, max_steps: int, power: float, minimum: float) -> float:
    return poly_learning_rate(step, max_steps, base, power, minimum) / base


def _check_schedule(max_steps: int, power: float, minimum: float) -> None:
    if max_steps < 1:
        raise ValueError(f"max_steps must be at least 1, got {max_steps}")
    if not power > 0:
        raise ValueError(f"power must be above 0, got {power}")
    if not minimum >= 0:
        raise ValueError(f"minimum must be at least 0, got {minimum}")
