"""Muon for the matrices inside blocks (Jordan et al. 2024; the optimiser itself is torch's own).

Muon makes each step's matrices orthogonal, so that a step is of the same size for any gradient. It
is meant for the matrices between hidden layers; embeddings, projections into other spaces, kernels,
gains and biases stay with AdamW.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from torch import Tensor, nn
from torch.optim import Muon

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
    return Muon(
        [{"params": list(matrices), "lr": rate} for matrices, rate in groups],
        weight_decay=weight_decay,
        adjust_lr_fn="match_rms_adamw",
    )
