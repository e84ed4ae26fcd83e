"""The training criterion against the reference's way of computing it: losses and gradients.

A synthetic batch of the size of training batches (ViT-B/16: two tokens a patch and side): smooth
proposals, elliptical instances, a label for every pixel. Both compute the loss and the gradients
with respect to proposals and patch tokens, in turns in one process on the same batch; medians are
compared. Times are processor times: with one thread they equal clock times on an idle
machine. Losses and gradients that don't agree end the benchmark with an error.

Memory is that of one such computation in a process of its own, as its peak and its growth. The
baseline needs about 17 GB at the default sizes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Literal

from benchmarks.measuring import (
    Figure,
    Report,
    Stopwatch,
    argument_parser,
    in_fresh_process,
    load_average,
    memory_mb,
    peak_memory_mb,
    publish,
    use_cores,
)

if TYPE_CHECKING:
    from torch import Generator, Tensor

Kind = Literal["reference", "ours"]

_LEAST_TIMES_FASTER = 10.0
_MOST_PART_OF_MEMORY = 0.4
_TOLERANCE = 1e-5  # relative: of losses, and of the 2-norm of gradients
_PIXELS_A_TOKEN = 8
_WIDTH = 512
_IGNORE_INDEX = 255
_IGNORED = 0.02  # of all pixels


@dataclass(frozen=True)
class Size:
    """side: rows and columns of the images; instances: of each image."""

    batch: int
    side: int
    layers: int
    queries: int
    instances: int
    categories: int

    @property
    def baseline_bytes(self) -> int:
        """Memory of the baseline for the gradient: each pair's proposal and mask at full size."""
        pairs = self.batch * self.layers * self.queries * self.instances
        return 2 * 4 * pairs * self.side**2


@dataclass(frozen=True, eq=False)
class Batch:
    """The arguments of `zutis_model.training.criterion.criterion`."""

    mask_proposals: Tensor
    patch_tokens: Tensor
    text_embeddings: Tensor
    semantic_masks: Tensor
    instance_masks: tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Outcome:
    """Losses, and gradients with respect to proposals and tokens."""

    losses: dict[str, float]
    gradients: dict[str, Tensor]


@dataclass
class Samples:
    """Processor seconds of every measurement."""

    reference: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)


def make_batch(size: Size, seed: int = 0) -> Batch:
    import torch
    import torch.nn.functional as F  # noqa: N812 - the field's name for it

    random = torch.Generator().manual_seed(seed)
    grid = size.side // _PIXELS_A_TOKEN
    coarse = torch.randn(size.batch * size.layers, size.queries, 6, 6, generator=random)
    logits = 3 * F.interpolate(coarse, size=(grid, grid), mode="bilinear")
    tokens = torch.randn(size.batch, grid, grid, _WIDTH, generator=random)
    text_embeddings = torch.randn(size.categories, _WIDTH, generator=random)
    instances = tuple(_ellipses(size, random) for _ in range(size.batch))
    return Batch(
        mask_proposals=logits.sigmoid().view(size.batch, size.layers, size.queries, grid, grid),
        patch_tokens=F.normalize(tokens, dim=-1),
        text_embeddings=F.normalize(text_embeddings, dim=-1),
        semantic_masks=torch.stack([_labels(masks, size, random) for masks in instances]),
        instance_masks=instances,
    )


def _ellipses(size: Size, random: Generator) -> Tensor:
    """bool [n, H, W]."""
    import torch

    y = torch.linspace(0, 1, size.side)[None, :, None]
    x = torch.linspace(0, 1, size.side)[None, None, :]
    drawn = torch.rand(4, size.instances, 1, 1, generator=random)
    (cy, cx), (ry, rx) = drawn[:2], 0.05 + 0.25 * drawn[2:]
    inside: Tensor = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1
    return inside


def _labels(masks: Tensor, size: Size, random: Generator) -> Tensor:
    """uint8 [H, W]: a category for each mask, later ones above; some pixels are ignored."""
    import torch

    labels = torch.zeros(masks.shape[1:], dtype=torch.uint8)
    categories = torch.randint(1, size.categories, (len(masks),), generator=random)
    for mask, category in zip(masks, categories.tolist(), strict=True):
        labels[mask] = category
    labels[torch.rand(labels.shape, generator=random) < _IGNORED] = _IGNORE_INDEX
    return labels


def compute(kind: Kind, batch: Batch) -> Outcome:
    """Forward and backward."""
    from benchmarks.reference.criterion import ReferenceLosses, reference_criterion
    from zutis_model.training.criterion import Losses, criterion

    proposals = batch.mask_proposals.detach().requires_grad_()
    tokens = batch.patch_tokens.detach().requires_grad_()
    arguments = (
        proposals, tokens, batch.text_embeddings, batch.semantic_masks, batch.instance_masks
    )  # fmt: skip
    result: Losses | ReferenceLosses
    result = criterion(*arguments) if kind == "ours" else reference_criterion(*arguments)
    result.loss.backward()  # type: ignore[no-untyped-call] # torch's
    assert proposals.grad is not None
    assert tokens.grad is not None
    names = ("loss", "ce_loss", "mask_loss")
    return Outcome(
        losses={name: getattr(result, name).item() for name in names},
        gradients={"proposals": proposals.grad, "tokens": tokens.grad},
    )


def check_agreement(batch: Batch) -> dict[str, float]:
    """Relative differences between ours and the baseline; also the first, slower runs of both."""
    theirs, ours = compute("reference", batch), compute("ours", batch)
    differences = {
        name: abs(ours.losses[name] - expected) / abs(expected)
        for name, expected in theirs.losses.items()
    } | {
        f"gradient of {name}": ((ours.gradients[name] - expected).norm() / expected.norm()).item()
        for name, expected in theirs.gradients.items()
    }
    for name, difference in differences.items():
        if not difference <= _TOLERANCE:
            raise SystemExit(f"Ours differs from the baseline by {difference:g} in the {name}.")
    return differences


def measure_in_turns(batch: Batch, rounds: int, turns: int) -> Samples:
    """`rounds` times: the baseline once, ours `turns` times."""
    samples = Samples()
    for number in range(rounds):
        samples.reference.append(_seconds("reference", batch))
        samples.ours += [_seconds("ours", batch) for _ in range(turns)]
        print(
            f"round {number + 1}: reference {samples.reference[-1]:.2f} s, "
            f"ours {median(samples.ours[-turns:]):.2f} s",
            flush=True,
        )
    return samples


def _seconds(kind: Kind, batch: Batch) -> float:
    with Stopwatch() as watch:
        compute(kind, batch)
    return watch.cpu


def measure_memory(kind: Kind, size: Size) -> dict[str, float]:
    """Peak memory, in MB, of a process that computes once; and its memory before that."""
    # Imported before anything is measured.
    import benchmarks.reference.criterion  # noqa: F401
    import zutis_model.training.criterion  # noqa: F401

    batch = make_batch(size)
    before = memory_mb()
    compute(kind, batch)
    return {"peak": peak_memory_mb(), "before": before}


def require_memory(size: Size) -> None:
    """Refuse to start rather than have the system kill a process."""
    fields = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    free = next(int(kb) * 1024 for name, kb, *_ in fields if name == "MemAvailable:")
    needed = 1.15 * size.baseline_bytes + 1e9
    if needed > free:
        raise SystemExit(
            f"The baseline needs about {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free: "
            "stop other programs, or take a smaller --batch or fewer --instances."
        )


def figures(
    samples: Samples, differences: dict[str, float], memory: dict[str, dict[str, float]]
) -> list[Figure]:
    reference, ours = median(samples.reference), median(samples.ours)
    their_mb, our_mb = memory["reference"], memory["ours"]
    growth = (our_mb["peak"] - our_mb["before"]) / (their_mb["peak"] - their_mb["before"])
    return [
        Figure("reference", reference, "s"),
        Figure("ours", ours, "s"),
        Figure("reference / ours", reference / ours, "times", at_least=_LEAST_TIMES_FASTER),
        Figure("peak memory, reference", their_mb["peak"], "MB"),
        Figure("memory before, reference", their_mb["before"], "MB"),
        Figure("peak memory, ours", our_mb["peak"], "MB"),
        Figure("memory before, ours", our_mb["before"], "MB"),
        Figure("peak memory: ours / reference", our_mb["peak"] / their_mb["peak"], ""),
        Figure("the same less the memory before", growth, "", limit=_MOST_PART_OF_MEMORY),
        *(
            Figure(f"relative difference, {name}", value, "", limit=_TOLERANCE)
            for name, value in differences.items()
        ),
    ]


def main() -> None:
    parser = argument_parser(__doc__)
    parser.set_defaults(threads=1)
    parser.add_argument("--batch", type=int, default=2, help="images (2)")
    parser.add_argument("--side", type=int, default=384, help="rows and columns (384)")
    parser.add_argument("--layers", type=int, default=6, help="of the decoder (6)")
    parser.add_argument("--queries", type=int, default=100, help="of each layer (100)")
    parser.add_argument("--instances", type=int, default=10, help="an image (10)")
    parser.add_argument("--categories", type=int, default=81, help="with the background (81)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of the reference (3)")
    parser.add_argument("--turns", type=int, default=3, help="of ours for each of its (3)")
    options = parser.parse_args()
    use_cores(options.threads)
    load = load_average()

    size = Size(options.batch, options.side, options.layers, options.queries, options.instances,
                options.categories)  # fmt: skip
    require_memory(size)
    memory = {kind: in_fresh_process(measure_memory, kind, size) for kind in ("reference", "ours")}
    batch = make_batch(size)
    differences = check_agreement(batch)
    samples = measure_in_turns(batch, options.rounds, options.turns)
    report = Report(
        benchmark="training_criterion",
        sizes=vars(size) | {"threads": options.threads, "rounds": options.rounds},
        figures=figures(samples, differences, memory),
        samples=vars(samples) | {"memory": memory},
        load=load,
    )
    publish(report, options.out)


if __name__ == "__main__":
    main()
