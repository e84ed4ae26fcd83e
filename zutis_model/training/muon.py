"""Muon for the matrices inside blocks (Jordan et al. 2024; the optimiser itself is torch's own).

Muon makes each step's matrices orthogonal, so that a step is of the same size for any gradient. It
is meant for the matrices between hidden layers; embeddings, projections into other spaces, kernels,
gains and biases stay with AdamW.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Muon
from torch.utils._python_dispatch import TorchDispatchMode

_IN_A_BLOCK = re.compile(r"\.resblocks\.|\.mlp\.|^decoder\.layers\.|^ffn\d\.")


def inner_matrices(named: Iterable[tuple[str, nn.Parameter]]) -> set[str]:
    """Names of the matrices inside blocks: of CLIP's towers, and of ZUTIS's decoder."""
    return {name for name, tensor in named if tensor.ndim == 2 and _IN_A_BLOCK.search(name)}


def make_muon(groups: Iterable[tuple[Sequence[Tensor], float]], weight_decay: float) -> Muon:
    """Muon whose steps are as large as AdamW's at the same rate.

    Args:
        groups: matrices and their learning rate.
        weight_decay: of all.
    """
    return _Muon(
        [{"params": list(matrices), "lr": rate} for matrices, rate in groups],
        weight_decay=weight_decay,
        adjust_lr_fn="match_rms_adamw",
    )


class _Muon(Muon):
    """torch's Muon, whose products in bfloat16 take two hundred times as long as in float32 on CPUs
    that have no instructions for them (AVX2)."""

    def step(self, *arguments: Any) -> Any:
        make_step: Any = super().step
        in_float32: Any = _ProductsInFloat32
        if torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return make_step(*arguments)
        with in_float32():
            return make_step(*arguments)


class _ProductsInFloat32(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Products of bfloat16 matrices on a CPU, summed in float32 and rounded once, which is what
    instructions for bfloat16 do."""

    _PRODUCTS = frozenset({torch.ops.aten.mm.default, torch.ops.aten.addmm.default})

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func not in self._PRODUCTS or args[0].dtype != torch.bfloat16 or args[0].is_cuda:
            return func(*args, **(kwargs or {}))
        return func(*(matrix.float() for matrix in args), **(kwargs or {})).bfloat16()
